// Text of jobs, workers and addresses on every page: control and direction characters are shown as symbols, and text
// from right to left changes nothing around it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, until } from "./harness.mjs";

/** Direction characters and controls, which no page may hold. */
const HIDDEN = "[\\u0000-\\u0008\\u000b\\u000d-\\u001f\\u007f-\\u009f\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2066\\u2067\\ufeff]";
const evil = (name) => `${name}\u202egnp.exe`;
const SHOWN = "⟨U+202E⟩gnp.exe";
const HEBREW = "שלום";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
});
after(() => stack?.stop());

/** A job in each state, with `name` in every text that it has. */
async function fill(name) {
  const texts = { worker_id: name("worker"), task: name("task"), payload_json: JSON.stringify({ text: name("payload") }) };
  const submit = () => stack.submit({ ...texts, max_retries: 1 });
  const [failed, running] = [await submit(), await submit()];
  const session = await stack.session(texts.worker_id, {
    slots: 2, host: name("host"), version: name("version"), tasks: [texts.task],
  });
  const leased = await session.acquire(2);
  const lease = (id) => leased.find(({ job }) => job.id === id).lease_id;
  await session.settle(lease(failed), { fail: { error: `${name("error")}\u001b[31m\nsecond ${name("line")}`, permanent: true } });
  await session.progress(lease(running), 0.5, name("progress"));
  const cancelled = await submit();
  await stack.call("CancelJob", { job_id: cancelled, reason: name("reason") });
  const pending = await submit();
  await stack.call("PauseWorkerId", { worker_id: texts.worker_id, reason: name("pause") });
  const spec = { kind: "retry", filter: { worker_ids: [name("filter")] }, reason: name("reason of operation") };
  const { operation } = await stack.call("StartOperation", { spec });
  return { ...texts, failed, running, cancelled, pending, session_id: session.session_id, operation_id: operation.id };
}

/** Address and heading of each page, and an element that exists once the page is filled. */
const pages = (it) => [
  ["/", "Overview", "main .explains .paused"],
  ["/jobs", "Jobs", "td.lead a"],
  ["/dead-letters", "Dead letters", "td.lead a"],
  ["/queues", "Queues", "td.lead a"],
  ["/workers", "Workers", "td.lead a"],
  [`/workers?worker_id=${encodeURIComponent(`${it.worker_id} nobody`)}`, "Workers", ".empty code"],
  [`/workers/${it.session_id}`, it.session_id, "td.lead a"],
  ["/operations", "Operations", "td.lead a"],
  [`/operations/${it.operation_id}`, it.operation_id, ".op-head progress"],
  [`/jobs/${it.failed}`, it.failed, ".timeline .event pre"],
  [`/jobs/${it.running}`, it.running, ".progress"],
  [`/jobs/${it.cancelled}`, it.cancelled, ".notice"],
  [`/jobs/${it.pending}`, it.pending, ".why-sentence"],
];

/** Texts and attributes of the page, and the tab's title, that match a pattern; values of controls are exact copies. */
const texts = (page, pattern) =>
  page.evaluate((pattern) => {
    const wanted = new RegExp(pattern, "u");
    const found = [document.title];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) found.push(walk.currentNode.data);
    for (const element of document.body.querySelectorAll("*")) {
      for (const name of ["title", "aria-label", "aria-valuetext", "alt"]) found.push(element.getAttribute(name) ?? "");
    }
    return found.filter((text) => wanted.test(text));
  }, pattern);

test("no page holds a hidden character, and symbols tell where they were", async () => {
  const it = await fill(evil);
  const page = await stack.page();
  for (const [address, heading, filled] of pages(it)) {
    await open(page, `${stack.base}${address}`, heading);
    await page.locator(filled).first().waitFor({ state: "attached" });
    await until(`${address} to show a symbol`, async () => (await texts(page, "U\\+202E")).length > 0);
    assert.deepEqual(await texts(page, HIDDEN), [], address);
  }
  await open(page, `${stack.base}/jobs/${it.failed}`, it.failed);
  await page.locator(".inline-error").getByText(`error${SHOWN}⟨ESC⟩[31m`).waitFor();
  await page.locator("section.json", { hasText: "Payload" }).getByText(`payload${SHOWN}`).waitFor();

  // An address may hold any text, which is the heading and the tab's title.
  await open(page, `${stack.base}/jobs/${encodeURIComponent(evil("id"))}`, `id${SHOWN}`);
  await until("the title", async () => (await page.title()).includes(`id${SHOWN}`));
  assert.deepEqual(await texts(page, HIDDEN), []);

  // Messages and dialogs.
  await open(page, `${stack.base}/workers/${it.session_id}`, it.session_id);
  await page.getByRole("button", { name: `Resume worker${SHOWN}` }).click();
  await page.locator(".toast", { hasText: `worker${SHOWN} goes on` }).waitFor();
  await page.getByRole("button", { name: `Pause worker${SHOWN}` }).click();
  await page.getByRole("dialog", { name: `Pause worker${SHOWN}?` }).waitFor();
  assert.deepEqual(await texts(page, HIDDEN), []);
});

test("text from right to left is isolated from what surrounds it", async () => {
  const it = await fill((name) => `${HEBREW} ${name}`);
  const page = await stack.page();
  for (const [address, heading, filled] of pages(it)) {
    await open(page, `${stack.base}${address}`, heading);
    await page.locator(filled).first().waitFor({ state: "attached" });
    await until(`${address} to show it`, async () => (await texts(page, HEBREW)).length > 0);
    const bare = await page.evaluate((hebrew) => {
      const walk = document.createTreeWalker(document.querySelector(".stage"), NodeFilter.SHOW_TEXT);
      const found = [];
      while (walk.nextNode()) {
        const { data, parentElement } = walk.currentNode;
        const isolated = getComputedStyle(parentElement).unicodeBidi.includes("isolate");
        if (data.includes(hebrew) && !isolated && !data.includes(`\u2068${hebrew}`)) found.push(data);
      }
      return found;
    }, HEBREW);
    assert.deepEqual(bare, [], address);
  }
  // Each is isolated by itself: the worker_id and the reason in one sentence stay in their places.
  await open(page, `${stack.base}/jobs/${it.pending}`, it.pending);
  await page.locator(".why-sentence", { hasText: `"\u2068${HEBREW} worker\u2069" has been paused` }).waitFor();
  await page.locator(".why-sentence", { hasText: `: \u2068${HEBREW} pause\u2069.` }).waitFor();
});
