// Actions under way: a second press is ignored, the answer does not move a user who has left the page, and rows of
// another filter cannot be acted on.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, short, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start();
});
after(() => stack?.stop());

/** Holds the calls of a method until `release` sends them on. */
async function hold(page, method) {
  const held = [];
  let open = false;
  await page.route(`**/${method}`, (route) => (open ? route.continue() : void held.push(route)));
  return {
    held,
    release: async () => {
      open = true;
      await Promise.all(held.splice(0).map((route) => route.continue()));
    },
  };
}

/** Presses a button twice before any answer can arrive. */
const pressTwice = (button) => button.evaluate((it) => (it.click(), it.click()));

test("Older pressed twice turns one page, and Newer leads back", async () => {
  const jobs = Array.from({ length: 130 }, () => ({ worker_id: "twice", payload_json: "{}" }));
  const { jobs: stored } = await stack.call("SubmitJobs", { jobs });
  const ids = stored.map((it) => it.job_id).reverse();
  const page = await stack.page();
  await open(page, `${stack.base}/jobs?worker_id=twice`, "Jobs");
  await row(page, ids[0]).waitFor();
  await pressTwice(page.getByRole("button", { name: "Older" }));
  await row(page, ids[50]).waitFor();
  assert.equal(await row(page, ids[0]).count(), 0);
  await page.getByRole("button", { name: "Newer" }).click();
  await row(page, ids[0]).waitFor();

  // The page is answered late, and the button is pressed again meanwhile.
  const list = await hold(page, "ListJobs");
  await page.getByRole("button", { name: "Older" }).click();
  await until("the next page to be asked for", () => list.held.length > 0);
  await page.getByRole("button", { name: "Older" }).dispatchEvent("click");
  await page.getByRole("button", { name: "Older" }).dispatchEvent("click");
  await list.release();
  await row(page, ids[50]).waitFor();
  await page.getByRole("button", { name: "Newer" }).click();
  await row(page, ids[0]).waitFor();
  assert.ok(new URL(page.url()).pathname === "/jobs");
});

test("Retry pressed twice is one call, in the list and on the job's page", async () => {
  for (const where of ["list", "page"]) {
    const job_id = await stack.deadLetter({ task: `twice-${where}` });
    const page = await stack.page();
    let calls = 0;
    page.on("request", (request) => request.url().endsWith("/RetryJob") && calls++);
    if (where === "list") {
      await open(page, `${stack.base}/dead-letters?task=twice-list`, "Dead letters");
    } else {
      await open(page, `${stack.base}/jobs/${job_id}`, job_id);
    }
    const retry = await hold(page, "RetryJob");
    const button = page.getByRole("button", { name: where === "list" ? `Retry job ${short(job_id)}` : "Retry job" });
    await button.waitFor();
    const handle = await button.elementHandle();
    await pressTwice(button);
    await until("the button to say that it is busy", async () => (await handle.getAttribute("aria-busy")) === "true");
    assert.equal(await handle.getAttribute("aria-disabled"), "true");
    await handle.evaluate((it) => it.click());
    await retry.release();
    await page.locator(".toast").waitFor();
    assert.equal(calls, 1);
    assert.equal(await page.locator(".toast").count(), 1);
  }
});

test("Submit pressed twice stores one job", async () => {
  const page = await stack.page();
  let calls = 0;
  page.on("request", (request) => request.url().endsWith("/SubmitJob") && calls++);
  await open(page, `${stack.base}/submit`, "Submit");
  await page.getByLabel("worker_id", { exact: true }).fill("submit-twice");
  await page.getByLabel("Payload", { exact: true }).fill("{}");
  await pressTwice(page.getByRole("button", { name: "Submit job" }));
  await page.locator("#outcome").getByText("Submitted job").waitFor();
  const { jobs } = await stack.call("ListJobs", { worker_id: "submit-twice" });
  assert.deepEqual([jobs.length, calls], [1, 1]);
});

test("a slow answer moves nobody who has gone on", async () => {
  const job_id = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  await stack.call("CancelJob", { job_id });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  const deletion = await hold(page, "DeleteJob");
  await page.getByRole("button", { name: "Delete job" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete job" }).click();
  await until("the call", () => deletion.held.length === 1);
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Jobs" }).click();
  await page.getByRole("link", { name: "Submit job" }).click();
  await page.getByRole("heading", { level: 1, name: "Submit" }).waitFor();
  await deletion.release();
  await page.locator(".toast", { hasText: "deleted" }).waitFor();
  assert.equal(new URL(page.url()).pathname, "/submit");

  // A submit that is answered after its page was left shows a message and does not take the focus.
  const submit = await hold(page, "SubmitJob");
  await page.getByLabel("worker_id", { exact: true }).fill("left");
  await page.getByLabel("Payload", { exact: true }).fill("{}");
  await page.getByRole("button", { name: "Submit job" }).click();
  await until("the call", () => submit.held.length === 1);
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Overview", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.getByRole("searchbox").focus();
  await submit.release();
  await page.locator(".toast", { hasText: "Submitted job" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.type), "search");
  assert.equal(await page.locator(".crash").count(), 0);
});

test("somebody who types on after Submit keeps the place to type at", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  const submit = await hold(page, "SubmitJob");
  await page.getByLabel("worker_id", { exact: true }).fill("typing");
  await page.getByLabel("Payload", { exact: true }).fill("{}");
  await page.getByRole("button", { name: "Submit job" }).click();
  await until("the call", () => submit.held.length === 1);
  await page.getByLabel("Task", { exact: true }).fill("next");
  await submit.release();
  await page.locator("#outcome").getByText("Submitted job").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "field-task");
});

test("rows and selection of another filter are gone at once, whatever becomes of the call", async () => {
  const ids = [await stack.deadLetter({ task: "one" }), await stack.deadLetter({ task: "one" })];
  const page = await stack.page();
  let retries = 0;
  page.on("request", (request) => request.url().endsWith("/RetryJob") && retries++);
  await open(page, `${stack.base}/dead-letters?task=one`, "Dead letters");
  for (const id of ids) await row(page, id).waitFor();
  await page.getByLabel("Select all on this page").check();
  await page.getByRole("button", { name: "Retry 2", exact: true }).waitFor();
  const list = await hold(page, "ListFailedJobs");
  await page.getByLabel("Task", { exact: true }).fill("two");
  await page.getByLabel("Task", { exact: true }).press("Enter");
  await until("the other list to be asked for", () => list.held.length > 0);
  for (const id of ids) await row(page, id).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Retry 2", exact: true }).waitFor({ state: "detached" });
  // When the call fails, nothing of the old filter comes back either.
  await Promise.all(list.held.splice(0).map((route) => route.abort()));
  await page.getByText("Nothing to show yet").waitFor();
  assert.equal(await page.locator("tbody tr:not(.skeleton)").count(), 0);
  await list.release();
  await page.getByText("None fits these filters").waitFor();

  await page.getByRole("button", { name: "Clear filters" }).click();
  await row(page, ids[0]).waitFor();
  await page.getByLabel("Select all on this page").check();
  // A filter that the server refuses shows no old rows, and the error stands at its field.
  await page.getByLabel("Task", { exact: true }).fill("x".repeat(101));
  await page.getByLabel("Task", { exact: true }).press("Enter");
  await page.locator("#filter-task-error", { hasText: "100" }).waitFor();
  assert.equal(await page.getByLabel("Task", { exact: true }).getAttribute("aria-invalid"), "true");
  assert.equal(await page.locator("tbody tr:not(.skeleton)").count(), 0);
  assert.equal(await page.getByRole("button", { name: /^Retry \d/ }).count(), 0);
  assert.equal(retries, 0);
});
