// The submit form: the page shows the job until it is done, wrong fields are marked, hostile text stays text.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({
    workers: [
      ["worker-1a", "--simulate"],
      ["hostile", "--exec", "markup=echo '<img src=x onerror=window.hacked=1><b>bold</b>' >&2; exit 65"],
    ],
  });
});
after(() => stack?.stop());

test("a job that the form submits is seen done, with its result", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  await page.getByLabel("worker_id", { exact: true }).fill("worker-1a");
  await page.getByLabel("Payload", { exact: true }).fill('{"task": "email", "to": "ada@example.com"}');
  await page.getByText("Valid JSON, 42 bytes, task email").waitFor();
  await page.getByRole("button", { name: "Submit job" }).click();
  const outcome = page.locator("#outcome");
  await outcome.getByText("Submitted job").waitFor();
  await outcome.locator(".pill.done").waitFor();
  await outcome.getByRole("link").click();
  await page.locator(".summary .pill.done").waitFor();
  await page.locator("section.json", { hasText: "Result" }).getByText("simulated").waitFor();
  assert.equal(await page.locator("section.json", { hasText: "Payload" }).getByText("ada@example.com").count(), 1);
});

test("every option reaches the server", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  const fill = (label, text) => page.getByLabel(label, { exact: true }).fill(text);
  await fill("worker_id", "nobody");
  await fill("Task", "report");
  await fill("Payload", "[1.10]");
  await page.getByRole("button", { name: "New key" }).click();
  await fill("Priority", "2");
  await page.getByLabel("After a delay").check();
  await fill("Delay", "1h 30m");
  await fill("max_retries", "7");
  await fill("Attempt timeout", "45s");
  await fill("First", "2s");
  await fill("Then times", "3");
  await fill("At most", "10m");
  await fill("Jitter, 0 to 1", "0.5");
  await page.getByRole("button", { name: "Submit job" }).click();
  const href = await page.locator("#outcome").getByRole("link").getAttribute("href");
  const { job } = await stack.call("GetJob", { job_id: href.split("/").pop() });
  assert.deepEqual(
    {
      worker_id: job.worker_id, task: job.task, payload_json: job.payload_json, priority: job.priority,
      max_retries: job.max_retries, timeout: job.attempt_timeout.seconds, key: job.idempotency_key.length,
      policy: [job.retry_policy.initial.seconds, job.retry_policy.factor, job.retry_policy.max.seconds,
        job.retry_policy.jitter],
      delay: job.run_at.seconds - job.created_at.seconds,
    },
    {
      worker_id: "nobody", task: "report", payload_json: "[1.10]", priority: 2, max_retries: 7, timeout: 45, key: 36,
      policy: [2, 3, 600, 0.5], delay: 5_400,
    },
  );
});

test("the server's complaints stand at their fields and nothing typed is lost", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  await page.getByLabel("Payload", { exact: true }).fill('{"open": ');
  await page.getByText("The payload is not JSON").waitFor();
  await page.getByLabel("Priority", { exact: true }).fill("12");
  await page.getByRole("button", { name: "Submit job" }).click();
  for (const field of ["worker_id", "payload_json", "priority"]) {
    await page.locator(`#field-${field}-error`, { hasText: /\w/ }).waitFor();
    const control = page.locator(`#field-${field}`);
    assert.equal(await control.getAttribute("aria-invalid"), "true", field);
    assert.match(await control.getAttribute("aria-describedby"), new RegExp(`field-${field}-error`));
  }
  assert.match(await page.locator("#field-priority-error").innerText(), /9/);
  await until("the first wrong field to have the focus", () =>
    page.evaluate(() => document.activeElement.id === "field-worker_id"));
  assert.equal(await page.getByLabel("Payload", { exact: true }).inputValue(), '{"open": ');
  await page.reload();
  await until("the draft to be back", async () =>
    (await page.getByLabel("Payload", { exact: true }).inputValue()) === '{"open": ');

  // A value that the form cannot send at all is marked the same way.
  await page.getByLabel("Attempt timeout", { exact: true }).fill("soon");
  await page.getByRole("button", { name: "Submit job" }).click();
  await page.locator("#field-attempt_timeout-error", { hasText: "no length of time" }).waitFor();
});

test("markup in payloads and errors is shown as text", async () => {
  const payload = '{"task":"markup","x":"<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"}';
  const job_id = await stack.submit({ worker_id: "hostile", payload_json: payload });
  await stack.settled(job_id, "failed");
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  const panel = page.locator("section.json", { hasText: "Payload" });
  await panel.getByText("<script>window.hacked=1</script>").waitFor();
  await panel.getByRole("button", { name: "Raw" }).click();
  await until("the payload byte for byte", async () => (await panel.locator("pre").textContent()).trim() === payload);
  await page.locator(".timeline .event-text", { hasText: "onerror" }).getByText("<b>bold</b>").waitFor();
  await open(page, `${stack.base}/dead-letters`, "Dead letters");
  await page.getByText("<b>bold</b>").first().waitFor();
  const found = await page.evaluate(() => ({
    hacked: window.hacked, elements: document.querySelectorAll("main script, main img, main b").length,
  }));
  assert.deepEqual(found, { hacked: undefined, elements: 0 });
});

test("the page needs no inline script or style, and nothing has complained", async () => {
  const answer = await fetch(`${stack.base}/`, { headers: { accept: "text/html" } });
  const policy = answer.headers.get("content-security-policy");
  assert.match(policy, /script-src 'self' 'wasm-unsafe-eval'/);
  assert.doesNotMatch(policy, /unsafe-inline|'unsafe-eval'/);
  assert.deepEqual(stack.problems, []);
});
