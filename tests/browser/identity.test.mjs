// Refreshes of a page keep what the user has opened, focused, selected or asked: rows change in place, and dialogs own
// the data that they need.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, short, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [["worker-1a", "--simulate"], ["busy", "--simulate"]] });
});
after(() => stack?.stop());

/** Waits until the page has received `times` more answers of a method. */
async function refreshed(page, method, times = 2) {
  for (let n = 0; n < times; n++) await page.waitForResponse((answer) => answer.url().endsWith(`/${method}`));
}

test("a dialog acts after the row that opened it has changed", async () => {
  await stack.submit({ worker_id: "held", payload_json: "{}" });
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  await page.getByRole("button", { name: "Pause held" }).click();
  const dialog = page.getByRole("dialog", { name: "Pause held?" });
  await dialog.waitFor();
  await stack.submit({ worker_id: "held", payload_json: "{}" });
  const line = page.locator("tbody tr", { has: page.getByRole("link", { name: "held" }) });
  await line.locator("[data-label=Pending]", { hasText: "2" }).waitFor();
  await refreshed(page, "GetMetrics");
  await dialog.getByLabel("Reason").fill("thinking");
  await page.keyboard.press("Enter");
  await page.locator(".toast", { hasText: "held is paused" }).waitFor();
  await dialog.waitFor({ state: "hidden" });
  assert.equal(await page.locator(".crash").count(), 0);
});

test("a dialog about a job that was deleted meanwhile tells so, and breaks nothing", async () => {
  const job_id = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  await page.getByRole("button", { name: "Cancel job" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  await stack.call("CancelJob", { job_id });
  await stack.call("DeleteJob", { job_id });
  await page.getByText("This job has been deleted").waitFor({ state: "attached" });
  await dialog.getByRole("button", { name: "Cancel job" }).click();
  await page.locator(".toast.bad").waitFor();
  assert.equal(await page.locator(".crash").count(), 0);
  await page.getByRole("link", { name: "Overview" }).first().click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
});

test("the way back closes a dialog", async () => {
  const job_id = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs?worker_id=nobody`, "Jobs");
  await page.getByRole("link", { name: short(job_id) }).click();
  await page.getByRole("heading", { level: 1, name: job_id }).waitFor();
  await page.getByRole("button", { name: "Cancel job" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  await page.goBack();
  await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();
  await dialog.waitFor({ state: "hidden" });
  await row(page, job_id).waitFor();
  assert.equal(await page.locator(".crash").count(), 0);
});

test("dead letters that are gone meanwhile are counted as such", async () => {
  const ids = [await stack.deadLetter({ task: "gone" }), await stack.deadLetter({ task: "gone" })];
  const page = await stack.page();
  await open(page, `${stack.base}/dead-letters?task=gone`, "Dead letters");
  for (const id of ids) await row(page, id).waitFor();
  await page.getByLabel("Select all on this page").check();
  await page.getByRole("button", { name: "Retry 2", exact: true }).click();
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  for (const job_id of ids) await stack.call("DeleteJob", { job_id });
  await page.getByText("No dead letters").waitFor({ state: "attached" });
  await dialog.getByRole("button", { name: "Retry 2 dead letters" }).click();
  await page.locator(".toast", { hasText: "0 retried, 2 no dead letters any more" }).waitFor();
  assert.equal(await page.locator(".crash").count(), 0);
});

test("focus and text selection stay where they are while a row changes", async () => {
  const session = await stack.session("focus");
  const job_id = await stack.submit({ worker_id: "focus", task: "slow", payload_json: "{}" });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs?worker_id=focus`, "Jobs");
  const line = row(page, job_id);
  await line.locator(".pill.pending").waitFor();
  const link = line.getByRole("link");
  await link.focus();
  await link.evaluate((it) => (window.focused = it));
  await line.locator("[data-label=Task]").evaluate((cell) => getSelection().selectAllChildren(cell));
  const [leased] = await session.acquire(1);
  await line.locator(".pill.running").waitFor();
  await session.settle(leased.lease_id, { complete: { result_json: "{}" } });
  await line.locator(".pill.done").waitFor();
  const now = await page.evaluate(() => ({
    focused: document.activeElement === window.focused && window.focused.isConnected,
    selected: getSelection().toString(),
  }));
  assert.deepEqual(now, { focused: true, selected: "slow" });
  await session.end();
});

test("what is opened in a timeline stays open while more happens, and so does the focus on a link of the job", async () => {
  const session = await stack.session("opened");
  const job_id = await stack.submit({
    worker_id: "opened", payload_json: "{}", max_retries: 9, retry_policy: { initial: { seconds: 0, nanos: 1e6 }, max: { seconds: 0, nanos: 1e6 } },
  });
  const fail = async (error) => {
    const [leased] = await session.acquire(1);
    await session.settle(leased.lease_id, { fail: { error } });
  };
  await fail("first line\nsecond line");
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  const details = page.locator(".timeline details", { hasText: "first line" });
  await details.locator("summary").click();
  await page.locator(".summary").getByRole("link", { name: "opened" }).focus();
  await fail("another failure");
  await page.locator(".timeline .event-text", { hasText: "another failure" }).waitFor();
  const [leased] = await session.acquire(1);
  await session.progress(leased.lease_id, 0.25, "a quarter");
  const progress = page.locator(".timeline li", { hasText: "a quarter" });
  await progress.waitFor();
  await progress.evaluate((it) => (window.progress = it));
  await session.progress(leased.lease_id, 0.75, "three quarters");
  await page.locator(".timeline li", { hasText: "three quarters" }).getByText("75 %").waitFor();
  const now = await page.evaluate(() => ({
    open: document.querySelector(".timeline details").open,
    focused: document.activeElement.textContent.trim(),
    inPlace: window.progress.isConnected && window.progress.textContent.includes("three quarters"),
  }));
  assert.deepEqual(now, { open: true, focused: "opened", inPlace: true });
  await session.end();
});

test("a pause keeps the focus on its button", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  await page.getByRole("button", { name: "Pause busy" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Resume busy" }).waitFor();
  await until("the button to have the focus", () =>
    page.evaluate(() => document.activeElement.getAttribute("aria-label") === "Resume busy"));
  await stack.call("ResumeWorkerId", { worker_id: "busy" });
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
