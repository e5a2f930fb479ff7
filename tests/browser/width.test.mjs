// No page scrolls sideways, however long its texts and large its counts are, and whenever its style sheets come: wide
// tables scroll inside their own frame.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, change, open, until } from "./harness.mjs";

/** Window widths: phone, tablet, laptops and desktops; 1200 is the narrowest at which tables do not scroll. */
const WIDTHS = [390, 768, 1024, 1200, 1280, 1440];
const MILLION = 1_234_567;

/** A text without a place to break, as long as the API allows. */
const long = (letter, length = 100) => letter.repeat(length);
const WORKER_ID = long("w");
const NOBODY = long("n");
const HOUR = { seconds: 3_600 };

let stack;
let letter;
let running;
let cancelled;
let session;
let operation;
before(async () => {
  stack = await Stack.start({ workers: [] });
  const job = (worker_id, request = {}) =>
    stack.submit({ worker_id, task: long("t"), payload_json: JSON.stringify({ text: long("p", 500) }), ...request });
  letter = await job(WORKER_ID, { idempotency_key: long("k", 255), max_retries: 100 });
  running = await job(WORKER_ID);
  await job(WORKER_ID);
  session = await stack.session(WORKER_ID, {
    slots: 100, host: long("h", 255), version: long("v", 255), tasks: [long("t"), long("u"), long("v")],
  });
  const leased = await session.acquire(3);
  const lease = (id) => leased.find(({ job }) => job.id === id).lease_id;
  await session.settle(lease(letter), { fail: { error: long("e", 2_000), permanent: true } });
  await session.progress(lease(running), 0.5, long("m", 200));
  await job(NOBODY, { delay: HOUR });
  cancelled = await job(NOBODY);
  await stack.call("CancelJob", { job_id: cancelled, reason: long("r", 1_024) });
  for (const worker_id of [WORKER_ID, NOBODY]) {
    await stack.call("PauseWorkerId", { worker_id, reason: long("r", 1_024) });
  }
  const spec = { kind: "retry", filter: { worker_ids: [long("z")] }, reason: long("r", 1_024) };
  ({ operation } = await stack.call("StartOperation", { spec }));
});
after(() => stack?.stop());

/** A page that shows counts of seven digits and long times. */
async function page() {
  const page = await stack.page();
  const large = (counts) =>
    Object.assign(counts, {
      total: MILLION, pending: MILLION, scheduled: MILLION, retrying: MILLION, running: MILLION, done: MILLION,
      failed: MILLION, failed_lately: MILLION, sessions: MILLION, oldest_runnable_age: { seconds: 3_540 },
    });
  await change(page, "GetMetrics", (answer) => [answer, ...answer.worker_ids].forEach(large));
  await change(page, "GetThroughputs", ({ series }) =>
    series.forEach((it) => Object.assign(it, { done: it.done.map(() => MILLION), failed: it.failed.map(() => MILLION) })));
  await change(page, "GetThroughput", ({ minutes }) =>
    minutes.forEach((minute) => Object.assign(minute, { submitted: MILLION, done: MILLION, failed: MILLION })));
  return page;
}

/** Pixels by which an element can be scrolled sideways, once it has followed the width of the window. */
const sideways = (element) =>
  element.evaluate(async (it) => {
    for (let frames = 0; frames < 2; frames++) await new Promise(requestAnimationFrame);
    return it.scrollWidth - it.clientWidth;
  });

/** The widths of the window at which an element of the page can be scrolled sideways, and by how many pixels. */
async function tooWide(page, element = "html") {
  const found = [];
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    const wider = await sideways(page.locator(element));
    if (wider) found.push(`${wider} px at ${width} px`);
  }
  return found;
}

/** Address and heading of each page, and an element that exists once the page is filled. */
const pages = () => [
  ["/", "Overview", "main .explains .paused"],
  ["/jobs", "Jobs", "td.lead a"],
  ["/dead-letters", "Dead letters", "td.lead a"],
  ["/queues", "Queues", ".spark"],
  [`/queues/${WORKER_ID}`, WORKER_ID, "td.lead a"],
  [`/queues/${long("x")}`, long("x"), ".empty code"],
  ["/workers", "Workers", "td.lead a"],
  [`/workers?worker_id=${long("x")}`, "Workers", ".empty code"],
  [`/jobs?task=${long("x")}`, "Jobs", ".empty"],
  ["/submit", "Submit", "textarea"],
  ["/operations", "Operations", "td.lead a"],
  ["/operations/new", "New operation", "#field-filter"],
  [`/operations/${operation.id}`, operation.id, ".op-head progress"],
  [`/jobs/${letter}`, letter, ".timeline .event pre"],
  [`/jobs/${running}`, running, ".progress"],
  [`/jobs/${cancelled}`, cancelled, ".timeline .event"],
  [`/workers/${session.session_id}`, session.session_id, "td.lead a"],
];

test("no page scrolls sideways, whatever it shows", async () => {
  const filled = await page();
  const found = [];
  for (const [address, heading, element] of pages()) {
    await open(filled, `${stack.base}${address}`, heading);
    await filled.locator(element).first().waitFor({ state: "attached" });
    found.push(...(await tooWide(filled)).map((it) => `${address}: ${it}`));
  }
  assert.deepEqual(found, []);
});

test("a table that is wider than its card scrolls inside of it", async () => {
  const filled = await page();
  await filled.setViewportSize({ width: 768, height: 900 });
  await open(filled, `${stack.base}/workers`, "Workers");
  await filled.locator("td.lead a").first().waitFor();
  assert.ok((await sideways(filled.locator("main .scroll-x"))) > 0);
  assert.equal(await sideways(filled.locator("html")), 0);
});

test("the throughput as a table, a message and a question fit into the window", async () => {
  const filled = await page();
  await open(filled, `${stack.base}/`, "Overview");
  await filled.getByRole("button", { name: "Show as table" }).click();
  await filled.locator(".chart-card tbody tr").first().waitFor();
  assert.deepEqual(await tooWide(filled), []);

  const queues = filled.locator("table.queues");
  await queues.getByRole("button", { name: `Resume ${NOBODY}` }).click();
  await filled.locator(".toast", { hasText: NOBODY }).waitFor();
  await queues.getByRole("button", { name: `Pause ${NOBODY}` }).click();
  await filled.getByRole("dialog").waitFor();
  for (const element of ["html", ".dialog[open]"]) assert.deepEqual(await tooWide(filled, element), [], element);
});

test("the app starts once its style sheets apply", async () => {
  const filled = await page();
  const held = [];
  let open = false;
  await filled.route("**/*.css", (route) => (open ? route.continue() : void held.push(route)));
  const code = filled.waitForResponse((response) => response.url().endsWith(".wasm")).then((it) => it.finished());
  await filled.goto(`${stack.base}/`, { waitUntil: "commit" });
  await code;
  const loading = () => filled.evaluate(() => document.readyState === "loading");
  // A browser that does not wait for the style sheets starts the app at this point, and draws the chart too wide.
  await until("the page to wait, or the chart", async () => (await loading()) || (await filled.locator(".plot svg").count()));
  open = true;
  await Promise.all(held.map((route) => route.continue()));
  await filled.locator(".plot svg").waitFor();
  await filled.locator("main .explains .paused").first().waitFor();
  assert.equal(await sideways(filled.locator("html")), 0);
});

test("the chart follows its card when the window stays as it is", async () => {
  const filled = await page();
  await open(filled, `${stack.base}/`, "Overview");
  await filled.locator(".plot .line").first().waitFor({ state: "attached" });
  const widths = () => filled.locator(".plot").evaluate(async (plot) => {
    for (let frames = 0; frames < 2; frames++) await new Promise(requestAnimationFrame);
    return [plot.clientWidth, Number(plot.querySelector("svg").getAttribute("width"))];
  });
  const [before, drawn] = await widths();
  assert.equal(drawn, before);
  await filled.locator(".frame").evaluate((frame) => (frame.style.gridTemplateColumns = "500px minmax(0, 1fr)"));
  const [after, redrawn] = await widths();
  assert.equal(after, before - 300);
  assert.equal(redrawn, after);
  assert.equal(await sideways(filled.locator("html")), 0);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
