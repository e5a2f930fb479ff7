// Times and states come from the server, whatever the browser's clock says; lists carry no payloads.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start();
});
after(() => stack?.stop());

/** A page whose clock runs, and is wrong by `ms` milliseconds. */
async function skewed(ms) {
  const page = await stack.page();
  await page.clock.install({ time: Date.now() + ms });
  return page;
}

const HOURS = 2 * 3_600_000;

for (const [words, ms] of [["behind", -HOURS], ["ahead of", HOURS]]) {
  test(`a browser whose clock is two hours ${words} the server's shows the server's states and ages`, async () => {
    const pending = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
    const scheduled = await stack.submit({ worker_id: "nobody", payload_json: "{}", delay: { seconds: 3_600 } });
    const page = await skewed(ms);
    await open(page, `${stack.base}/jobs?worker_id=nobody`, "Jobs");
    await row(page, pending).locator(".pill.pending").waitFor();
    await row(page, scheduled).locator(".pill.scheduled").waitFor();
    await row(page, pending).locator("[data-label=Changed]", { hasText: /just now|\d+ s ago/ }).waitFor();
    await row(page, scheduled).locator("[data-label=Time]", { hasText: /in (59 min|1 h)/ }).waitFor();
    await page.getByText(`This browser's clock is 2 h ${words} the server's.`).waitFor();
    await open(page, `${stack.base}/workers`, "Workers");
    await page.locator("[data-label='Last heartbeat']", { hasText: /just now|\d+ s ago/ }).first().waitFor();
    await open(page, `${stack.base}/submit`, "Submit");
    await page.getByLabel("At a time").check();
    const at = new Date(Date.now() + 3 * HOURS);
    const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
    await page.getByLabel("Run at").fill(local);
    await page.getByText(/The server's clock says .*: the job runs in [56] h/).waitFor();
  });
}

test("nobody is told of a clock that is right", async () => {
  await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs?worker_id=nobody`, "Jobs");
  await page.locator("tbody tr.opens").first().waitFor();
  assert.equal(await page.getByText("This browser's clock").count(), 0);
});

test("full times name their zone, in titles and on the pages of jobs and sessions", async () => {
  const job_id = await stack.deadLetter({ task: "zone" });
  const { sessions } = await stack.call("ListWorkers", { worker_id: "worker-1a" });
  for (const [timezoneId, zone] of [["Asia/Kolkata", "UTC+05:30"], ["UTC", "UTC"]]) {
    const page = await stack.page({ timezoneId });
    const full = new RegExp(`^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d ${zone.replace("+", "\\+")}$`);
    for (const [address, heading] of [["/dead-letters", "Dead letters"], ["/jobs", "Jobs"], ["/workers", "Workers"]]) {
      await open(page, stack.base + address, heading);
      assert.match(await page.locator("tbody time").first().getAttribute("title"), full, address);
    }
    for (const [address, heading] of [
      [`/jobs/${job_id}`, job_id], [`/workers/${sessions[0].session_id}`, sessions[0].session_id],
    ]) {
      await open(page, stack.base + address, heading);
      const time = page.locator(".properties time").first();
      const [ago, moment] = (await time.innerText()).split(", ");
      assert.match(ago, /ago|just now/);
      assert.match(moment, full, address);
    }
    await open(page, `${stack.base}/jobs/${job_id}`, job_id);
    assert.match((await page.locator(".timeline time").first().innerText()).split(", ")[1], full);
    await page.context().close();
  }
});

/**
 * Counts the answers that a page receives from the API, and their bytes. Chromium's own events tell them: Playwright's
 * `requestfinished` comes late or never where a page does not read the very end of an answer.
 */
async function weigh(page) {
  const sum = { bytes: 0, answers: 0 };
  const calls = new Set();
  const chromium = await page.context().newCDPSession(page);
  chromium.on("Network.responseReceived", ({ requestId, response }) => {
    if (!response.url.includes("/jobqueue.v1.")) return;
    calls.add(requestId);
    sum.answers += 1;
  });
  chromium.on("Network.dataReceived", ({ requestId, dataLength }) => {
    if (calls.has(requestId)) sum.bytes += dataLength;
  });
  await chromium.send("Network.enable");
  return sum;
}

test("an idle tab with large dead letters is light, on every page that shows them", async () => {
  const payload_json = JSON.stringify({ fail: true, text: "x".repeat(256 * 1024 - 64) });
  const ids = [];
  for (let n = 0; n < 13; n++) ids.push(await stack.deadLetter({ task: "large", payload_json }));
  for (const [path, heading] of [
    ["/dead-letters?task=large", "Dead letters"], ["/jobs?task=large", "Jobs"], ["/", "Overview"],
  ]) {
    const page = await stack.page();
    const sum = await weigh(page);
    await open(page, stack.base + path, heading);
    await page.locator("tbody tr.opens").first().waitFor();
    // All 13 rows are on one page, although 3 MiB of payloads would cut a page at 12.
    if (path !== "/") assert.equal(await page.locator("tbody tr.opens").count(), 13);
    await until("several refreshes", () => sum.answers >= 8);
    assert.ok(sum.bytes > 0, "the bytes are counted");
    assert.ok((sum.bytes / sum.answers) * 40 < 300 * 1024, `${path}: ${sum.bytes} bytes in ${sum.answers} answers`);
    await page.context().close();
  }
  // The job's own page reads the payload once.
  const page = await stack.page();
  const counted = { job: 0, timeline: 0 };
  page.on("response", (response) => {
    if (response.url().endsWith("/GetJob")) counted.job += 1;
    if (response.url().endsWith("/GetTimeline")) counted.timeline += 1;
  });
  await open(page, `${stack.base}/jobs/${ids[0]}`, ids[0]);
  await page.locator("section.json", { hasText: /Payload\s*25\d(\.\d)? KiB/ }).waitFor();
  await until("several refreshes", () => counted.timeline >= 4);
  assert.ok(counted.job <= 2, `${counted.job} times`);
  // The page shows the deletion of its job.
  await stack.call("DeleteJob", { job_id: ids[0] });
  await page.getByText("This job has been deleted").waitFor();
});
