// Lists and the overview: filters live in the URL, pages go both ways, ids are found, the chart answers to keys.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, short, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start();
});
after(() => stack?.stop());

test("filters survive a reload and the way back", async () => {
  const failed = await stack.deadLetter();
  const pending = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs`, "Jobs");
  await row(page, pending).waitFor();
  const field = page.getByRole("combobox", { name: "Filter" });
  await page.getByRole("navigation", { name: "Status" }).getByRole("link", { name: "Failed" }).click();
  await row(page, pending).waitFor({ state: "detached" });
  await field.fill("worker:worker-1a");
  await field.press("Enter");
  await page.waitForURL((url) => url.searchParams.get("q") === "status:failed worker:worker-1a");
  await page.reload();
  await row(page, failed).waitFor();
  assert.deepEqual(await page.locator(".chip").allInnerTexts(), ["status:failed", "worker:worker-1a"]);
  assert.equal(await row(page, pending).count(), 0);
  await page.goBack();
  await page.waitForURL((url) => url.searchParams.get("q") === "status:failed");
  await until("the filter to follow", async () => (await page.locator(".chip").count()) === 1);
  await page.getByRole("button", { name: "Clear filters" }).click();
  await row(page, pending).waitFor();
});

test("pages go to the older jobs and back", async () => {
  const jobs = Array.from({ length: 60 }, () => ({ worker_id: "pages", payload_json: "{}" }));
  const { jobs: stored } = await stack.call("SubmitJobs", { jobs });
  const [oldest, newest] = [stored[0].job_id, stored[59].job_id];
  const page = await stack.page();
  await open(page, `${stack.base}/jobs?worker_id=pages`, "Jobs");
  await row(page, newest).waitFor();
  await page.getByRole("button", { name: "Older" }).click();
  await row(page, oldest).waitFor();
  await page.reload();
  await row(page, oldest).waitFor();
  await page.getByRole("button", { name: "Newest" }).click();
  await row(page, newest).waitFor();
  await page.getByRole("button", { name: "Older" }).click();
  await row(page, oldest).waitFor();
  await page.getByRole("button", { name: "Newer" }).click();
  await row(page, newest).waitFor();
});

test("a pasted id opens its job, and so does a click on a row", async () => {
  const id = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  const search = page.getByRole("searchbox");
  await search.fill(`job ${id} was lost`);
  await search.press("Enter");
  await page.getByRole("heading", { level: 1, name: id }).waitFor();
  await search.fill("no id");
  await search.press("Enter");
  await page.locator(".toast", { hasText: "no job id" }).waitFor();
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Jobs", exact: true }).click();
  await row(page, id).getByText("nobody").click();
  await page.getByRole("heading", { level: 1, name: id }).waitFor();
});

test("the overview counts, and its chart answers to keys and as a table", async () => {
  const id = await stack.submit({ worker_id: "worker-1a", payload_json: '{"task":"email"}' });
  await stack.settled(id, "done");
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  await until("a done job to be counted", async () =>
    Number(await page.locator(".tile.done .tile-figure").innerText()) > 0);
  const chart = page.getByRole("slider", { name: "Throughput by minute" });
  await until("the series to be there", async () => (await chart.getAttribute("aria-valuemax")) === "59");
  await chart.focus();
  await page.keyboard.press("Home");
  assert.equal(await chart.getAttribute("aria-valuenow"), "0");
  await page.keyboard.press("ArrowRight");
  assert.equal(await chart.getAttribute("aria-valuenow"), "1");
  assert.match(await chart.getAttribute("aria-valuetext"), /^\d\d:\d\d: \d+ submitted, \d+ done, /);
  await page.locator(".readout").waitFor();
  await page.getByRole("button", { name: "Show as table" }).click();
  assert.equal(await page.locator(".scroll tbody tr").count(), 60);
  await page.getByRole("link", { name: "Jobs", exact: true }).first().click();
  await page.getByRole("link", { name: short(id) }).waitFor();
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
