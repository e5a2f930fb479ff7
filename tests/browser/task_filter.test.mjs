// A list that is filtered by a rare task goes on by itself until the page is full or the list ends, says how far it has
// come, and stops when asked.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, until } from "./harness.mjs";

/** More jobs than two calls read. */
const COMMON = 10_500;

let stack;
let rare;
before(async () => {
  stack = await Stack.start({ workers: [] });
  rare = await stack.submit({ worker_id: "filter", task: "rare", payload_json: "{}" });
  for (let n = 0; n < COMMON; n += 500) {
    const jobs = Array.from({ length: 500 }, () => ({ worker_id: "filter", task: "common", payload_json: "{}" }));
    await stack.call("SubmitJobs", { jobs });
  }
});
after(() => stack?.stop());

const line = (page) => page.locator(".search-line");

test("a rare job is found without a press", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/jobs?task=rare`, "Jobs");
  await row(page, rare).waitFor();
  await line(page).waitFor({ state: "detached" });
  assert.equal(await page.getByRole("button", { name: "Older" }).count(), 0, "the list has ended");
});

test("a task that no job has is known to be absent without a press", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/jobs?task=absent`, "Jobs");
  await page.getByText("No job fits these filters").waitFor();
  assert.equal(await page.getByRole("button", { name: "Older" }).count(), 0);
});

test("a search says how far it has come, stops, and goes on", async () => {
  const page = await stack.page();
  const held = [];
  await page.route("**/ListJobs", (route) => void held.push(route));
  const next = () => until("a call", () => held.shift());
  await open(page, `${stack.base}/jobs?task=rare`, "Jobs");
  await (await next()).continue();
  await line(page).getByText(/^Searching older jobs, searched back to \d\d:\d\d\.$/).waitFor();
  await page.getByText("None found yet").waitFor();
  const button = line(page).getByRole("button");
  await button.focus();
  const second = await next();
  await page.keyboard.press("Enter");
  await button.filter({ hasText: "Stopping…" }).waitFor();
  await second.continue();
  await line(page).getByText(/^Searched back to \d\d:\d\d\. Older jobs are not searched yet\.$/).waitFor();
  assert.equal(await button.innerText(), "Search on");
  assert.equal(await row(page, rare).count(), 0);
  assert.ok(await button.evaluate((it) => it === document.activeElement), "the focus stays on the button");

  await page.keyboard.press("Enter");
  await (await next()).continue();
  await row(page, rare).waitFor();
  await line(page).waitFor({ state: "detached" });
});

test("the waiting jobs of a task are found too, in a list that no time orders", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/jobs?status=pending&task=absent`, "Jobs");
  await page.getByText("No job fits these filters").waitFor();
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
