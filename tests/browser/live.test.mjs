// Refresh of pages: one request at a time, none while the page is hidden. The test controls the browser's clock.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, until } from "./harness.mjs";

let stack;
let job_id;
before(async () => {
  stack = await Stack.start({ workers: [] });
  job_id = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
});
after(() => stack?.stop());

/**
 * Counts the calls of a method, and those that were answered or have failed. `requestfinished` does not tell it: it comes
 * late or never where a page does not read the very end of an answer.
 */
function watch(page, method) {
  const ended = new Set();
  const seen = { asked: 0, get answered() { return ended.size; } };
  const mine = (request) => request.url().endsWith(`/${method}`);
  page.on("request", (request) => mine(request) && seen.asked++);
  page.on("response", (response) => mine(response.request()) && ended.add(response.request()));
  page.on("requestfailed", (request) => mine(request) && ended.add(request));
  return seen;
}

/** Makes a call of its own, so that the page's earlier requests have been counted when it is answered. */
const flushed = (page) => page.evaluate(() => fetch("/metrics").then((answer) => answer.text()));

/** A page whose clock stands still until the test runs it. */
async function stoppedPage() {
  const page = await stack.page();
  const now = Date.now();
  await page.clock.install({ time: now });
  // Ahead of the clock, which runs until then.
  await page.clock.pauseAt(now + 10_000);
  return page;
}

test("refreshing never overlaps itself, however long an answer takes", async () => {
  const page = await stoppedPage();
  const held = [];
  await page.route("**/ListJobs", (route) => held.push(route));
  const counts = watch(page, "GetMetrics");
  await open(page, `${stack.base}/jobs`, "Jobs");
  await until("the list to be asked for", () => held.length === 1);
  await until("the counts to be there", () => counts.answered > 0);
  await flushed(page);
  const before = counts.asked;
  await until("the counts to be asked for again", async () => {
    await page.clock.runFor(500);
    return counts.asked > before;
  });
  for (let n = 0; n < 3; n++) await page.evaluate(() => window.dispatchEvent(new Event("online")));
  await flushed(page);
  assert.equal(held.length, 1, "nothing is asked for while an answer is awaited");

  // Refreshes that were due while the answer was awaited become one request, made at once.
  await held[0].continue();
  await until("the next request", () => held.length === 2);
  await row(page, job_id).waitFor();
  await flushed(page);
  assert.equal(held.length, 2);
  await held[1].continue();
  await until("a third request when its time has come", async () => {
    await page.clock.runFor(1_000);
    return held.length === 3;
  });
});

test("refreshing stops while the tab is hidden, and goes on at once when it is seen", async () => {
  const page = await stoppedPage();
  const list = watch(page, "ListJobs");
  const counts = watch(page, "GetMetrics");
  await open(page, `${stack.base}/jobs`, "Jobs");
  await row(page, job_id).waitFor();
  const idle = () => until("all answers to be there", () =>
    list.asked === list.answered && counts.asked === counts.answered);
  await idle();
  const first = list.asked;
  await until("a request while the tab is seen", async () => {
    await page.clock.runFor(500);
    return list.asked > first;
  });

  const show = (seen) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
    }, !seen);
  await show(false);
  await flushed(page);
  await idle();
  const before = [list.asked, counts.asked];
  await page.clock.runFor(10 * 60_000);
  await flushed(page);
  assert.deepEqual([list.asked, counts.asked], before, "nobody looks");

  // The clock stands still, so these requests come from the page becoming visible and not from a timer.
  await show(true);
  await until("both to be asked for again", () => list.asked > before[0] && counts.asked > before[1]);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
