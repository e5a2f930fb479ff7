// The reason why a job is not running: the page shows the server's explanation, follows it live, and offers the action
// that helps.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, mark, open, stayed, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
});
after(() => stack?.stop());

const why = (page) => page.locator(".why");

/** The sentence without its durations, which change between two reads. */
const plain = (sentence) => sentence.replaceAll(/less than 1 s|\d+ (s|min|h|days)\b/g, "…");

/** Waits until the page shows this reason, in the server's words. */
async function says(page, job_id, reason) {
  await until(`the page to say ${reason}`, async () => {
    const answer = await stack.call("ExplainJob", { job_id });
    const shown = (await why(page).count()) ? await why(page).locator(".why-sentence").innerText() : "";
    return answer.reason === reason && plain(shown) === plain(answer.sentence);
  });
}

test("the answer follows what happens, without a reload", async () => {
  const job_id = await stack.submit({ worker_id: "late", task: "email", payload_json: "{}" });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  await mark(page);
  await page.getByRole("heading", { name: "Why is it not running?" }).waitFor();
  await says(page, job_id, "no_session");
  assert.equal(
    await why(page).getByRole("link", { name: "How to start a worker" }).getAttribute("href"),
    "/workers?worker_id=late",
  );

  const stranger = await stack.session("late", { tasks: ["report"] });
  await says(page, job_id, "no_handler");
  await why(page).getByRole("link", { name: "See which tasks its workers handle" }).waitFor();
  await stranger.end();

  const first = await stack.submit({ worker_id: "late", task: "email", payload_json: "1", priority: 0 });
  const busy = await stack.session("late", { tasks: ["email"] });
  const [other] = await busy.acquire();
  assert.equal(other.job.id, first);
  await says(page, job_id, "slots_busy");
  await why(page).getByRole("link", { name: "See its workers" }).waitFor();

  await stack.call("PauseWorkerId", { worker_id: "late", reason: "the mail server is down" });
  await says(page, job_id, "paused");
  await why(page).getByRole("button", { name: "Resume late" }).click();
  await page.locator(".toast", { hasText: "late goes on" }).waitFor();
  await says(page, job_id, "slots_busy");

  await busy.settle(other.lease_id, { complete: {} });
  const [own] = await busy.acquire();
  assert.equal(own.job.id, job_id);
  await page.locator(".summary .pill.running").waitFor();
  await why(page).waitFor({ state: "detached" });
  assert.ok(await stayed(page), "the page must follow by itself");
});

test("a worker that connects takes the question away", async () => {
  const job_id = await stack.submit({ worker_id: "real", payload_json: '{"sleep_ms":600000}' });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  await mark(page);
  await says(page, job_id, "no_session");
  const spoken = () => page.locator(".unseen[role=status]").textContent();
  const { sentence } = await stack.call("ExplainJob", { job_id });
  await until("the sentence to be read out", async () => plain(await spoken()) === plain(sentence));
  stack.startWorker("real", "--simulate");
  await page.locator(".summary .pill.running").waitFor();
  await why(page).waitFor({ state: "detached" });
  assert.equal(await page.locator(".unseen[role=status]").count(), 0);
  assert.ok(await stayed(page));
});

test("a job whose time has not come says when it comes", async () => {
  const job_id = await stack.submit({ worker_id: "later", payload_json: "{}", delay: { seconds: 7200 } });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  await says(page, job_id, "scheduled");
  assert.match(await why(page).innerText(), /in (1|2) h/);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
