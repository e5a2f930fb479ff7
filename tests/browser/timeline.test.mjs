// A job's history on its page: failed, lost, refused and retried attempts, each with its session and time.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, mark, open, short, stayed, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
});
after(() => stack?.stop());

const events = (page) => page.locator(".timeline .event");
const words = async (page) => (await page.locator(".timeline .event .pill").allInnerTexts()).map((it) => it.trim());

test("a job that failed, was rescued, refused, retried and done tells it all, newest first", async () => {
  const job_id = await stack.submit({
    worker_id: "history", payload_json: "{}", max_retries: 2, retry_policy: { initial: {}, max: {} },
  });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  await until("the submission to be told", async () => (await words(page)).join() === "submitted");
  await mark(page);

  const lost = await stack.session("history", { lease: 5 });
  const [first] = await lost.acquire();
  assert.equal(await lost.settle(first.lease_id, { fail: { error: "<b>mailbox</b> full\n  at line 3", retry_after: {} } }), 0);
  const [second] = await lost.acquire();
  await lost.progress(second.lease_id, 0.4, "half of the recipients");
  await events(page).filter({ hasText: "40 %" }).filter({ hasText: "half of the recipients" }).waitFor();
  // The worker is silent from now on until its lease has run out; that was the last attempt.
  await stack.settled(job_id, "failed");
  assert.equal(await lost.settle(second.lease_id, { complete: {} }), 9);
  await events(page).filter({ hasText: "refused" }).waitFor();

  await page.getByRole("button", { name: "Retry job" }).click();
  await events(page).filter({ hasText: "retried by a person" }).waitFor();
  const second_session = await stack.session("history");
  const [third] = await second_session.acquire();
  assert.equal(await second_session.settle(third.lease_id, { complete: { result_json: "1" } }), 0);

  const story = [
    "done", "acquired", "retried by a person", "refused", "dead letter", "worker lost", "acquired", "failed",
    "acquired", "submitted",
  ];
  await until("the whole story", async () => (await words(page)).filter((it) => it !== "progress").join() === story.join());
  assert.ok(await stayed(page), "the page must follow by itself");

  const failed = events(page).filter({ has: page.locator(".pill", { hasText: /^failed$/ }) });
  await failed.getByText("run 1").waitFor();
  await failed.getByText("by-hand, session").waitFor();
  const text = failed.locator("pre");
  assert.equal(await text.isVisible(), false, "what is longer than a line is folded");
  await failed.locator("summary").click();
  assert.equal(await text.innerText(), "<b>mailbox</b> full\n  at line 3");
  assert.equal(await failed.locator("b").count(), 0, "an error is text");
  const time = failed.locator("time");
  assert.match(await time.getAttribute("title"), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/);
  assert.match(await time.innerText(), /ago|just now/);

  await failed.getByRole("link", { name: short(lost.session_id) }).click();
  await page.getByRole("heading", { level: 1, name: lost.session_id }).waitFor();
  await page.locator(".summary .pill", { hasText: "lost" }).waitFor();
  assert.ok(await stayed(page));
});

test("an opened text stays open while the page is kept fresh", async () => {
  const job_id = await stack.submit({ worker_id: "open", payload_json: "{}", retry_policy: { initial: {}, max: {} } });
  const session = await stack.session("open", { slots: 2 });
  const fail = async () => {
    const [job] = await session.acquire();
    await session.settle(job.lease_id, { fail: { error: `${"x".repeat(400)} ${job.job.run_no}`, retry_after: {} } });
  };
  await fail();
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  const folded = page.locator(".timeline details");
  await folded.locator("summary").click();
  await folded.locator("pre").waitFor();
  await fail();
  await until("the second failure", async () => (await folded.count()) === 2);
  assert.deepEqual(await folded.evaluateAll((all) => all.map((it) => it.open)), [false, true]);
});

test("a long history is shown in part until all of it is asked for", async () => {
  const job_id = await stack.submit({
    worker_id: "long", payload_json: "{}", max_retries: 100, retry_policy: { initial: {}, max: {} },
  });
  const session = await stack.session("long");
  for (let n = 1; n <= 25; n++) {
    const [job] = await session.acquire();
    await session.settle(job.lease_id, { fail: { error: `failure ${n}`, retry_after: {} } });
  }
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  const all = page.getByRole("button", { name: "Show all 51 events" });
  await all.waitFor();
  assert.equal(await events(page).count(), 40);
  await all.click();
  await events(page).filter({ hasText: "submitted" }).waitFor();
  assert.equal(await events(page).count(), 51);
});

test("equal failures are folded, and the fold opens by keyboard and stays open", async () => {
  const job_id = await stack.submit({
    worker_id: "equal", payload_json: "{}", max_retries: 100, retry_policy: { initial: {}, max: {} },
  });
  const session = await stack.session("equal");
  const fail = async (error) => {
    const [job] = await session.acquire();
    await session.settle(job.lease_id, { fail: { error, retry_after: {} } });
  };
  for (let n = 1; n <= 60; n++) await fail("550 mailbox unavailable");
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  const fold = page.getByRole("button", { name: "58 more like this" });
  await fold.waitFor();
  // The newest and the oldest attempt, the fold, and the submission.
  assert.equal(await events(page).count(), 6);
  const times = events(page).filter({ has: fold }).locator("time");
  assert.equal(await times.count(), 2);
  for (const time of await times.all()) assert.match(await time.getAttribute("title"), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/);
  // On paper the fold says how many attempts it holds, and when they were.
  await page.emulateMedia({ media: "print" });
  assert.ok(await fold.isVisible());
  const printed = await times.first().evaluate((it) => getComputedStyle(it, "::after").content);
  assert.match(printed, /\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/);
  await page.emulateMedia({ media: "screen" });

  await fold.focus();
  await page.keyboard.press("Enter");
  assert.equal(await fold.getAttribute("aria-expanded"), "true");
  await until("all attempts", async () => (await events(page).filter({ hasText: "550 mailbox unavailable" }).count()) === 60);
  await fail("550 mailbox unavailable");
  const more = page.getByRole("button", { name: "59 more like this" });
  await more.waitFor();
  assert.equal(await more.getAttribute("aria-expanded"), "true");
  assert.ok(await more.evaluate((it) => it === document.activeElement), "the focus stays");
  await page.keyboard.press("Enter");
  await until("the fold to be closed", async () => (await events(page).count()) === 6);
  // Another failure is told apart.
  await fail("421 try again later");
  await events(page).filter({ hasText: "421 try again later" }).waitFor();
  assert.equal(await more.count(), 1);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
