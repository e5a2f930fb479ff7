// A tab that nobody touches is cheap, and fresh again at the first movement. The test controls the browser's clock.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, until } from "./harness.mjs";

const WORKER_IDS = 1_000;

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
  for (let from = 0; from < WORKER_IDS; from += 500) {
    const jobs = Array.from({ length: 500 }, (_, n) => ({ worker_id: `team-${from + n}-transactional`, payload_json: "{}" }));
    await stack.call("SubmitJobs", { jobs });
  }
});
after(() => stack?.stop());

/** A page whose clock the test runs, and its calls of the API. */
async function watched() {
  const page = await stack.page();
  const now = Date.now();
  await page.clock.install({ time: now });
  // Ahead of the clock, which runs until then.
  await page.clock.pauseAt(now + 10_000);
  const calls = { asked: 0, open: new Set(), bytes: 0 };
  const mine = (request) => request.url().includes("/jobqueue.v1.");
  page.on("request", (request) => {
    if (!mine(request)) return;
    calls.asked += 1;
    calls.open.add(request);
  });
  page.on("response", (response) => {
    if (!mine(response.request())) return;
    calls.open.delete(response.request());
  });
  const chromium = await page.context().newCDPSession(page);
  const api = new Set();
  chromium.on("Network.responseReceived", ({ requestId, response }) => {
    if (response.url.includes("/jobqueue.v1.")) api.add(requestId);
  });
  // Bytes over the network, which are compressed.
  chromium.on("Network.dataReceived", ({ requestId, encodedDataLength }) => {
    if (api.has(requestId)) calls.bytes += encodedDataLength;
  });
  await chromium.send("Network.enable");
  return { page, calls };
}

/** Lets the page's time pass, with an answer to every call before the next second begins. */
async function pass({ page, calls }, seconds) {
  for (let n = 0; n < seconds; n++) {
    await page.clock.runFor(1_000);
    await until("all calls to be answered", async () => {
      await page.evaluate(() => fetch("/metrics", { method: "HEAD" }));
      return calls.open.size === 0;
    });
  }
}

for (const [address, heading] of [["/", "Overview"], ["/queues", "Queues"], ["/queues/team-1-transactional", "team-1-transactional"], ["/jobs", "Jobs"]]) {
  test(`an idle tab with ${heading} makes at most 20 calls and 300 KiB a minute`, async () => {
    const it = await watched();
    await open(it.page, stack.base + address, heading);
    await it.page.locator("tr.opens, .empty").first().waitFor();
    await pass(it, 63);
    Object.assign(it.calls, { asked: 0, bytes: 0 });
    await pass(it, 60);
    assert.ok(it.calls.asked >= 2 && it.calls.asked <= 20, `${it.calls.asked} calls`);
    assert.ok(it.calls.bytes > 0 && it.calls.bytes <= 300 * 1_024, `${it.calls.bytes} bytes`);
    await it.page.context().close();
  });
}

test("who comes back sees what is new at once", async () => {
  const it = await watched();
  await open(it.page, `${stack.base}/jobs`, "Jobs");
  await it.page.locator("tr.opens").first().waitFor();
  await pass(it, 70);
  const before = it.calls.asked;
  await it.page.mouse.move(600, 400);
  await until("all of the page to be asked for", () => it.calls.asked >= before + 2);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
