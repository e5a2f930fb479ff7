// A retry of many jobs shows how far it has come and what failed, on every page, and can be stopped.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, short, until } from "./harness.mjs";

const MANY = 40;

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
});
after(() => stack?.stop());

/** Makes dead letters of a task, on a worker_id of that name. */
async function letters(task, count) {
  const jobs = Array.from({ length: count }, () => ({ worker_id: task, task, payload_json: "{}" }));
  await stack.call("SubmitJobs", { jobs });
  const session = await stack.session(task, { slots: count });
  const leased = await session.acquire(count);
  for (const { lease_id } of leased) await session.settle(lease_id, { fail: { error: "boom", permanent: true } });
  await session.end();
}

test("a retry under way tells its progress through refreshes and other pages, and stops when asked", async () => {
  await letters("many", MANY);
  const page = await stack.page();
  await open(page, `${stack.base}/dead-letters?task=many`, "Dead letters");
  await until("all of them", async () => (await page.locator("tbody tr.opens").count()) === MANY);
  await page.getByLabel("Select all on this page").check();
  let calls = 0;
  const held = [];
  await page.route("**/RetryJob", (route) => {
    calls += 1;
    held.push(route);
  });
  await page.getByRole("button", { name: `Retry ${MANY}`, exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: `Retry ${MANY} dead letters` }).click();
  const panel = page.getByRole("region", { name: "Retry of many jobs" });
  await panel.getByText(`Retrying: 0 of ${MANY}`).waitFor();
  const next = () => until("a call", () => held.shift());
  for (let n = 0; n < 10; n++) await (await next()).continue();
  await panel.getByText(`Retrying: 10 of ${MANY}`).waitFor();

  // The list is refreshed, and its retried rows are gone; the rest is busy and takes no second press.
  await until("the retried rows to be gone", async () => (await page.locator("tbody tr.opens").count()) === MANY - 10);
  await panel.getByText(`Retrying: 10 of ${MANY}`).waitFor();
  await until("six calls under way", () => held.length === 6);
  const before = calls;
  const button = page.locator(".selection").getByRole("button", { name: "Retrying…" });
  await button.evaluate((it) => it.click());
  await page.locator("tbody tr.opens").first().getByRole("button").evaluate((it) => it.click());
  assert.equal(await page.getByRole("dialog").count(), 0);

  // On another page it goes on, and names what failed.
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Overview", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  const failed = await next();
  const job_id = failed.request().postDataBuffer().subarray(7).toString();
  await failed.abort();
  await panel.getByText(`Retrying: 11 of ${MANY}`).waitFor();
  await panel.getByText("1 failed").click();
  await panel.getByRole("listitem").filter({ hasText: "The server does not answer" }).getByRole("link", { name: short(job_id) }).waitFor();

  await until("six calls under way", () => held.length === 6);
  // Leaving the page would end it, so the browser asks.
  const question = page.waitForEvent("dialog");
  await page.close({ runBeforeUnload: true });
  assert.equal((await question).type(), "beforeunload");
  await (await question).dismiss();

  await panel.getByRole("button", { name: "Stop" }).click();
  await panel.getByText(`Stopping after 11 of ${MANY}`).waitFor();
  while (held.length) await held.shift().continue();
  await panel.getByText(`Retry stopped after 17 of ${MANY}`).waitFor();
  await page.locator(".toast.bad", { hasText: "16 retried, 23 left as they were, 1 not: The server does not answer" }).waitFor();
  assert.deepEqual([before, calls], [16, 17]);
  const { jobs } = await stack.call("ListFailedJobs", { task: "many" });
  assert.equal(jobs.length, 24);
  await panel.getByRole("button", { name: "Close" }).click();
  await panel.waitFor({ state: "detached" });
});

test("a retry without failures leaves only its message", async () => {
  await letters("few", 3);
  const page = await stack.page();
  await open(page, `${stack.base}/dead-letters?task=few`, "Dead letters");
  await page.getByLabel("Select all on this page").check();
  await page.getByRole("button", { name: "Retry 3", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Retry 3 dead letters" }).click();
  await page.locator(".toast", { hasText: /^3 retried$/ }).waitFor();
  await page.getByRole("region", { name: "Retry of many jobs" }).waitFor({ state: "detached" });
});
