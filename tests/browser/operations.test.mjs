// Operations: counted first, started once, watched while they run, held, stopped, and listed with their reasons.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, short, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
});
after(() => stack?.stop());

/** Makes dead letters of a worker_id; returns their ids. */
async function letters(worker_id, count) {
  const jobs = Array.from({ length: count }, () => ({ worker_id, task: "email", payload_json: "{}" }));
  const { jobs: stored } = await stack.call("SubmitJobs", { jobs });
  await fail(worker_id, count);
  return stored.map((it) => it.job_id);
}

async function fail(worker_id, count) {
  const session = await stack.session(worker_id, { slots: count });
  for (const { lease_id } of await session.acquire(count)) {
    await session.settle(lease_id, { fail: { error: "boom", permanent: true } });
  }
  await session.end();
}

const failed = async (worker_id) => (await stack.call("ListFailedJobs", { worker_id })).jobs.length;
const operations = async () => (await stack.call("ListOperations", {})).operations;
const newOperation = (page, query = "") => open(page, `${stack.base}/operations/new${query}`, "New operation");
const count = (page) => page.getByRole("button", { name: "Count the jobs" }).click();

test("jobs are counted with samples, then retried, and the page tells how far it is", async () => {
  const ids = await letters("mail", 12);
  const page = await stack.page();
  await open(page, `${stack.base}/operations`, "Operations");
  await page.getByText("No operations").waitFor();
  await page.getByRole("link", { name: "New operation" }).click();
  await page.getByRole("heading", { level: 1, name: "New operation" }).waitFor();
  await page.getByLabel("To which jobs").fill("worker:mail status:failed");
  assert.equal(await page.getByLabel("Reason").count(), 0, "nothing can be started before it is counted");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "12 jobs match" }).waitFor();
  assert.equal(await page.locator(".op-samples li").count(), 10);
  const { jobs } = await stack.call("ListFailedJobs", { worker_id: "mail" });
  await page.locator(".op-samples").getByRole("link", { name: short(jobs[0].id) }).waitFor();
  assert.equal((await operations()).length, 0, "a count stores nothing");

  // Other jobs are another question: the count goes, and with it the button.
  await page.getByLabel("What to do").selectOption("Delete");
  await page.getByRole("heading", { name: "12 jobs match" }).waitFor({ state: "detached" });
  assert.equal(await page.getByRole("button", { name: "Retry 12 jobs" }).count(), 0);
  await page.getByLabel("What to do").selectOption("Retry");
  await count(page);
  const start = page.getByRole("button", { name: "Retry 12 jobs" });
  await start.click();
  await page.locator(".field.wrong", { hasText: "Reason" }).getByText("must not be empty").waitFor();
  assert.ok(await page.getByLabel("Reason").evaluate((it) => it === document.activeElement), "the wrong field has the focus");
  await page.getByLabel("Reason").fill("<b>the mail server</b> is back");
  await start.click();
  await page.getByRole("heading", { level: 1, name: /^[0-9a-f-]{36}$/ }).waitFor();
  await page.getByText("12 changed").waitFor();
  await page.locator(".summary .pill", { hasText: "done" }).waitFor();
  await page.locator(".summary").getByText("status:failed worker:mail").waitFor();
  await page.getByText("<b>the mail server</b> is back").waitFor();
  assert.equal(await failed("mail"), 0);
  const { job } = await stack.call("GetJob", { job_id: ids[0] });
  assert.equal(job.status, "pending");

  await page.getByRole("link", { name: "Operations" }).last().click();
  const row = page.locator("tbody tr", { hasText: "the mail server" });
  await row.getByText("12 changed").waitFor();
  await row.getByRole("link", { name: "Retry" }).click();
  await page.getByText("127.0.0.1").waitFor();
});

test("a press that is repeated, and an answer that is lost, start one operation", async () => {
  await letters("once", 3);
  const before = (await operations()).length;
  const page = await stack.page();
  await newOperation(page, "?kind=retry&filter=worker%3Aonce");
  await count(page);
  await page.getByLabel("Reason").fill("again");
  const start = page.getByRole("button", { name: "Retry 3 jobs" });
  // The first call reaches the server, and its answer is lost.
  let calls = 0;
  await page.route("**/StartOperation", async (route) => {
    calls += 1;
    if (calls > 1) return route.continue();
    await route.fetch();
    await route.abort();
  });
  await start.click();
  await page.locator(".notice.bad").waitFor();
  await start.dblclick();
  await page.getByRole("heading", { level: 1, name: /^[0-9a-f-]{36}$/ }).waitFor();
  assert.equal((await operations()).length, before + 1);
  // The browser tells of the answer that the test has kept from it.
  stack.problems.splice(0, stack.problems.length, ...stack.problems.filter((it) => !it.includes("net::ERR_FAILED")));
});

test("nothing typed is lost by a reload, and what is wrong stands at its field", async () => {
  await letters("typed", 2);
  const page = await stack.page();
  await newOperation(page);
  await page.getByLabel("To which jobs").fill("nonsense:1");
  await count(page);
  await page.locator(".field.wrong", { hasText: "To which jobs" }).waitFor();
  await page.getByLabel("To which jobs").fill("worker:typed");
  await count(page);
  await page.getByLabel("Reason").fill("a reason");
  await page.getByLabel("Jobs per second").fill("-3");
  await page.getByRole("button", { name: "Retry 2 jobs" }).click();
  await page.locator(".field.wrong", { hasText: "Jobs per second" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "New operation" }).waitFor();
  assert.equal(await page.getByLabel("To which jobs").inputValue(), "worker:typed");
  await count(page);
  assert.equal(await page.getByLabel("Reason").inputValue(), "a reason");
  assert.equal(await page.getByLabel("Jobs per second").inputValue(), "-3");
});

test("an operation is paused, resumed and stopped, and its button keeps the focus", async () => {
  await letters("slow", 60);
  const spec = { kind: "retry", filter: { worker_ids: ["slow"] }, reason: "slowly", rate: 5 };
  const { operation } = await stack.call("StartOperation", { spec });
  const page = await stack.page();
  await open(page, `${stack.base}/operations/${operation.id}`, operation.id);
  const pause = page.getByRole("button", { name: "Pause" });
  await pause.focus();
  await page.keyboard.press("Enter");
  const resume = page.getByRole("button", { name: "Resume" });
  await resume.waitFor();
  await page.locator(".notice", { hasText: "paused by a person" }).waitFor();
  assert.ok(await resume.evaluate((it) => it === document.activeElement));
  const held = (await stack.call("GetOperation", { operation_id: operation.id })).operation.changed;
  await page.keyboard.press("Enter");
  await pause.waitFor();
  await until("it to go on", async () => {
    const { operation: now } = await stack.call("GetOperation", { operation_id: operation.id });
    return now.changed > held;
  });
  await page.getByRole("button", { name: "Stop" }).click();
  const dialog = page.getByRole("dialog", { name: "Stop this operation?" });
  await dialog.getByRole("button", { name: "Stop operation" }).click();
  await page.locator(".summary .pill", { hasText: "stopped" }).waitFor();
  await pause.waitFor({ state: "detached" });
  const { operation: now } = await stack.call("GetOperation", { operation_id: operation.id });
  assert.ok(now.changed < 60);
  await page.getByText(`${now.changed} of 60 changed`).waitFor();
});

test("a canary is judged in words", async () => {
  await letters("canary", 20);
  const page = await stack.page();
  await newOperation(page, "?kind=retry&filter=worker%3Acanary");
  await count(page);
  await page.getByLabel("Reason").fill("perhaps");
  await page.getByLabel("Try first").fill("4");
  await page.getByLabel("Stop if more of them fail").fill("25");
  await page.getByRole("button", { name: "Retry 20 jobs" }).click();
  await page.getByText("4 canary jobs were retried; the rest waits for their outcome").waitFor();
  await fail("canary", 4);
  await page.getByText("The 4 canary jobs did not pass: 0 done").waitFor();
  await page.locator(".summary .pill", { hasText: "stopped" }).waitFor();
  assert.equal(await failed("canary"), 20);
});

test("refused jobs are listed with what had become of them", async () => {
  const ids = await letters("refused", 2);
  await stack.call("RetryJob", { job_id: ids[0] });
  const gone = "01a20bc1-67cb-7621-9286-30fd25718a8a";
  const page = await stack.page();
  // The page shows what the server answers; such refusals need jobs that move at the right moment.
  const spec = { kind: "retry", filter: { ids: [ids[1]] }, reason: "one of two" };
  const { operation } = await stack.call("StartOperation", { spec });
  const { change } = await import("./harness.mjs");
  await change(page, "GetOperation", (answer) => {
    answer.operation.refused = 2;
    answer.refusals = [
      { job_id: ids[0], reason: "wrong_status", status: "pending" },
      { job_id: gone, reason: "gone", status: "unspecified" },
    ];
  });
  await open(page, `${stack.base}/operations/${operation.id}`, operation.id);
  await page.getByRole("heading", { name: "Refused jobs" }).waitFor();
  const row = page.locator("tbody tr", { has: page.getByRole("link", { name: short(ids[0]) }) });
  await row.getByText("It was pending by then.").waitFor();
  await page.locator("tbody tr", { hasText: "It did not exist any more." }).waitFor();
  await row.getByRole("link").click();
  await page.getByRole("heading", { level: 1, name: ids[0] }).waitFor();
});

test("the list of dead letters leads to an operation on all that match", async () => {
  await letters("led", 3);
  const page = await stack.page();
  await open(page, `${stack.base}/dead-letters?worker_id=led`, "Dead letters");
  await page.getByRole("link", { name: "Act on all that match…" }).click();
  await page.getByRole("heading", { level: 1, name: "New operation" }).waitFor();
  assert.match(await page.getByLabel("To which jobs").inputValue(), /worker:led/);
  await count(page);
  await page.getByRole("heading", { name: "3 jobs match" }).waitFor();
  assert.deepEqual(stack.problems, []);
});
