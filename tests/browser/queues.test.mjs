// Queues: the list begins with those in trouble, each has a page of its own whatever its worker_id is, and thousands of
// them can be used.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, change, mark, open, row, short, stayed, until } from "./harness.mjs";

/** Worker_ids that browsers and routers like to read differently. */
const STRANGE = ["..", ".", "a/b", "100%", "%2F", "~2E", "a b?c#d&e=f+g", "büro 1", "a\\b", "queues", '"><i>x'];

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
  const jobs = STRANGE.map((worker_id) => ({ worker_id, task: "report", payload_json: "{}" }));
  await stack.call("SubmitJobs", { jobs });
});
after(() => stack?.stop());

/** Names in the list, in its order. */
const names = (page) => page.locator("table.queues td.lead").allInnerTexts();

test("every worker_id has a page, which a click, the address and a reload lead to", async () => {
  const page = await stack.page();
  for (const worker_id of STRANGE) {
    await open(page, `${stack.base}/queues`, "Queues");
    await page.locator("table.queues td.lead").getByRole("link", { name: worker_id, exact: true }).click();
    const heading = page.getByRole("heading", { level: 1 });
    await until(`the page of ${worker_id}`, async () => (await heading.innerText()) === worker_id);
    for (const step of [() => page.reload(), () => page.goto(page.url())]) {
      const answer = await step();
      assert.equal(answer.status(), 200, page.url());
      await until(`the page of ${worker_id} again`, async () => (await heading.innerText()) === worker_id);
      await until("its count", async () => (await page.locator(".tile.pending .tile-figure").innerText()) === "1");
    }
  }
  await page.getByRole("link", { name: "Its jobs" }).click();
  await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();
  await until("one job", async () => (await page.locator("tbody tr.opens").count()) === 1);
});

test("a queue's page shows counts, sessions by host, dead letters, and follows", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/queues/shop`, "shop");
  await page.getByText("This worker_id has no jobs and no worker.").waitFor();
  await page.locator(".empty code", { hasText: "--worker-id=shop" }).waitFor();
  await mark(page);
  const ids = [];
  for (let n = 0; n < 3; n++) ids.push(await stack.submit({ worker_id: "shop", task: "mail", payload_json: "{}" }));
  const session = await stack.session("shop", { slots: 4, host: "build-1" });
  await stack.session("shop", { slots: 2, host: "build-1" });
  await stack.session("shop", { slots: 1, host: "build-2" });
  const [{ job, lease_id }] = await session.acquire(1);
  await session.settle(lease_id, { fail: { error: "SMTP 550", permanent: true } });
  await session.acquire(1);

  await page.locator("tr.group", { hasText: "build-1: 2 live sessions, 1 of 6 slots in use" }).waitFor();
  await page.locator("tr.group", { hasText: "build-2: 1 live session, 0 of 1 slots in use" }).waitFor();
  await row(page, job.id).getByText("SMTP 550").waitFor();
  for (const [tone, count] of [["all", "3"], ["pending", "1"], ["running", "1"], ["failed", "1"]]) {
    await until(`${count} ${tone}`, async () => (await page.locator(`.tile.${tone} .tile-figure`).innerText()) === count);
  }
  await page.locator(".concern.failed", { hasText: "shop: 1 failed in the last 10 min" }).waitFor();
  assert.ok(await stayed(page), "the page must follow by itself");
  await page.getByRole("link", { name: short(session.session_id) }).click();
  await page.getByRole("heading", { level: 1, name: session.session_id }).waitFor();
  await page.goBack();
  await page.locator(".tile.pending").click();
  await page.waitForURL((url) => url.pathname === "/jobs" && url.search === "?worker_id=shop&status=pending");
});

test("a queue is paused and resumed on its page", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/queues/~2E~2E`, "..");
  await page.getByRole("button", { name: "Pause .." }).click();
  await page.getByRole("dialog").getByLabel("Reason").fill("maintenance");
  await page.keyboard.press("Enter");
  await page.locator(".notice .paused", { hasText: "maintenance" }).waitFor();
  assert.equal(await page.locator(".concern").count(), 0, "it is said once");
  const { worker_ids } = await stack.call("GetMetrics", {});
  assert.equal(worker_ids.find((it) => it.worker_id === "..").pause_reason, "maintenance");
  await page.getByRole("button", { name: "Resume .." }).click();
  await page.locator(".notice .paused").waitFor({ state: "detached" });
});

test("its chart shows the queue's own throughput, for an hour and for a day", async () => {
  const page = await stack.page();
  const asked = [];
  await page.route("**/GetThroughput", (route) => {
    asked.push(route.request().postDataBuffer().toString("latin1"));
    return route.continue();
  });
  await open(page, `${stack.base}/queues/shop`, "shop");
  const hour = page.getByRole("slider", { name: "Throughput by minute" });
  await until("the hour", async () => (await hour.getAttribute("aria-valuemax")) === "59");
  await hour.focus();
  await page.keyboard.press("End");
  assert.match(await hour.getAttribute("aria-valuetext"), /so far: \d+ submitted, 0 done, 0 retried, \d+ failed/);
  assert.ok(asked.every((request) => request.includes("shop")));
  await page.getByRole("button", { name: "24 h" }).click();
  const day = page.getByRole("slider", { name: "Throughput by quarter of an hour" });
  await until("the day", async () => Number(await day.getAttribute("aria-valuemax")) >= 95);
  await page.getByText("+3 submitted in 24 h").waitFor();
});

test("the worst come first, and a part of a name finds the others", async () => {
  const page = await stack.page();
  await change(page, "GetMetrics", ({ worker_ids }) => {
    const of = (name) => worker_ids.find((it) => it.worker_id === name);
    for (const it of worker_ids) Object.assign(it, { sessions: 1, failed_lately: 0, oldest_runnable_age: null });
    Object.assign(of("a b?c#d&e=f+g"), { failed_lately: 40 });
    Object.assign(of("büro 1"), { sessions: 0, oldest_runnable_age: { seconds: 7_200 } });
    Object.assign(of("queues"), { oldest_runnable_age: { seconds: 7_200 } });
  });
  await open(page, `${stack.base}/queues`, "Queues");
  await until("the order", async () =>
    (await names(page)).slice(0, 3).join("|") === "a b?c#d&e=f+g|büro 1|queues");
  const states = await page.locator("table.queues td.state").allInnerTexts();
  assert.deepEqual(states.slice(0, 4).map((it) => it.trim()), ["failing", "no worker", "late", ""]);
  await page.getByLabel("worker_id", { exact: true }).fill("B");
  await page.getByLabel("worker_id", { exact: true }).press("Enter");
  await until("what contains it", async () =>
    (await names(page)).join("|") === "a b?c#d&e=f+g|büro 1|a/b|a\\b");
  await page.getByLabel("worker_id", { exact: true }).fill("nothing like it");
  await page.getByLabel("worker_id", { exact: true }).press("Enter");
  await page.getByText("No worker_id contains this text").waitFor();
});

test("a thousand queues come in pages, each with its last hour by one call", async () => {
  const page = await stack.page();
  await change(page, "GetMetrics", (answer) => {
    const [first] = answer.worker_ids;
    answer.worker_ids = Array.from({ length: 1_000 }, (_, n) =>
      ({ ...first, worker_id: `w${String(n).padStart(3, "0")}`, sessions: 1, failed_lately: 0, oldest_runnable_age: null }));
  });
  let calls = 0;
  page.on("request", (request) => (calls += request.url().endsWith("/GetThroughputs") ? 1 : 0));
  await open(page, `${stack.base}/queues`, "Queues");
  await page.getByText("1,000 queues").waitFor();
  await until("a sparkline in each row", async () => (await page.locator("svg.spark").count()) === 50);
  assert.equal(calls, 1);
  assert.equal((await names(page))[0], "w000");
  await page.getByRole("link", { name: "Next" }).click();
  await until("the second page", async () => (await names(page))[0] === "w050");
  await page.getByText("Page 2 of 20").waitFor();
  await page.reload();
  await until("the second page again", async () => (await names(page))[0] === "w050");
  await page.getByRole("link", { name: "Previous" }).click();
  await until("the first page", async () => (await names(page))[0] === "w000");
});

test("a sparkline shows what was done and what failed", async () => {
  const page = await stack.page();
  await change(page, "GetThroughputs", ({ series }) => {
    for (const it of series) {
      it.done = it.done.map((_, at) => at);
      it.failed = it.failed.map((_, at) => (at === 3 ? 5 : 0));
    }
  });
  await open(page, `${stack.base}/queues?worker_id=shop`, "Queues");
  const spark = page.getByRole("img", { name: /^Last hour: \d+ done, 5 failed$/ });
  await spark.waitFor();
  assert.equal((await spark.locator(".failed").getAttribute("d")).match(/M/g).length, 1);
  assert.ok((await spark.locator(".done").getAttribute("d")).match(/M/g).length >= 29);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
