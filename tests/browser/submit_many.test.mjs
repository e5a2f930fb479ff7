// The submit drawer over any page, and many jobs at once: exactly what was submitted is told, and nothing is submitted
// twice.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { AxeBuilder } from "@axe-core/playwright";

import { Stack, open, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
});
after(() => stack?.stop());

const drawer = (page) => page.getByRole("dialog", { name: "Submit" });
const count = async (worker_id) => {
  const { worker_ids } = await stack.call("GetMetrics", {});
  return worker_ids.find((it) => it.worker_id === worker_id)?.total ?? 0;
};
const many = async (page, worker_id, text) => {
  await page.getByLabel("Many jobs at once").check();
  await page.getByLabel("worker_id", { exact: true }).fill(worker_id);
  await page.getByLabel("Payloads, one in each line").fill(text);
};
const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => `${from + n}`).join("\n");
/** Problems that the browser reports of calls that a test has cut off. */
const forgive = () => (stack.problems = stack.problems.filter((it) => !/Failed to load resource|ERR_FAILED/.test(it)));

test("the drawer opens over any page, keeps the draft, traps the focus and returns it", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/workers`, "Workers");
  const button = page.getByRole("banner").getByRole("button", { name: "Submit" });
  await button.click();
  await until("the first field to have the focus", () =>
    page.evaluate(() => document.activeElement.id === "field-worker_id"));
  await drawer(page).getByLabel("worker_id", { exact: true }).fill("drawer");
  await drawer(page).getByLabel("Payload", { exact: true }).fill("[1]");
  // The focus never reaches the page below.
  for (let n = 0; n < 40; n++) {
    await page.keyboard.press("Tab");
    assert.ok(await page.evaluate(() => !document.activeElement.closest(".frame")), "the focus is in the drawer");
  }
  await page.keyboard.press("Escape");
  await drawer(page).waitFor({ state: "hidden" });
  assert.ok(await button.evaluate((it) => it === document.activeElement), "the focus returns");
  await page.reload();
  // Programs and keys open it by an event.
  await page.getByRole("heading", { level: 1, name: "Workers" }).waitFor();
  await page.evaluate(() => window.dispatchEvent(new CustomEvent("jobqueue-submit")));
  assert.equal(await drawer(page).getByLabel("Payload", { exact: true }).inputValue(), "[1]");
  await drawer(page).getByRole("button", { name: "Submit job" }).click();
  await drawer(page).locator("#outcome").getByText("Submitted job").waitFor();
  assert.equal(await count("drawer"), 1);
  await drawer(page).locator("#outcome").getByRole("link").click();
  await page.getByRole("heading", { level: 1, name: "Job for drawer" }).waitFor();
  await drawer(page).waitFor({ state: "hidden" });
});

for (const [viewport, width] of [["wide", 1280], ["narrow", 390]]) {
  test(`axe finds nothing serious in the drawer, ${viewport}`, async () => {
    const page = await stack.page({ viewport: { width, height: 900 }, reducedMotion: "reduce" });
    await open(page, `${stack.base}/`, "Overview");
    await page.getByRole("banner").getByRole("button", { name: "Submit" }).click();
    await many(page, "axe", '{"a":1}\n{oops}\n[2]');
    await drawer(page).getByText("1 line is wrong").waitFor();
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      const { violations } = await new AxeBuilder({ page }).analyze();
      const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
      assert.deepEqual(grave.map(({ id, nodes }) => [id, nodes[0].html.slice(0, 160)]), [], colorScheme);
    }
    const wider = await drawer(page).evaluate((it) => it.scrollWidth - it.clientWidth);
    assert.equal(wider, 0);
  });
}

test("a draft that is sent again after its answer was lost is one job", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  await page.getByLabel("worker_id", { exact: true }).fill("once");
  await page.getByLabel("Payload", { exact: true }).fill("[1]");
  let lost = 0;
  await page.route("**/SubmitJob", async (route) => {
    if (lost++) return route.continue();
    await route.fetch();
    await route.abort();
  });
  const submit = page.getByRole("button", { name: "Submit job" });
  await submit.click();
  await page.locator("#outcome", { hasText: "Nothing typed is lost" }).waitFor();
  await page.reload();
  await page.unroute("**/SubmitJob");
  await submit.click();
  await page.locator("#outcome", { hasText: "This key had been used for the same request" }).waitFor();
  assert.equal(await count("once"), 1);
  // A draft that was stored is over: the same values again are another job.
  await submit.click();
  await page.locator("#outcome", { hasText: "Submitted job" }).waitFor();
  assert.equal(await count("once"), 2);
  forgive();
});

test("lines are checked with their numbers before anything is sent", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  await many(page, "checked", '{"a": 1}\n\n{"b": \n[3]');
  await page.getByText("1 line is wrong").waitFor();
  await page.getByText("Line 3").waitFor();
  await page.locator(".preview").getByText('"a": 1').waitFor();
  await page.getByRole("button", { name: "Submit 2 jobs" }).click();
  await page.locator("#field-lines-error", { hasText: "1 line is wrong" }).waitFor();
  await until("the field to have the focus", () => page.evaluate(() => document.activeElement.id === "field-lines"));
  assert.equal(await count("checked"), 0);

  const buffer = Buffer.from(numbers(1, 10_001));
  await page.getByLabel("Or from a file").setInputFiles({ name: "jobs.jsonl", mimeType: "application/json", buffer });
  await page.getByText("There are 10,001 lines; at most 10,000 can be submitted at once").waitFor();
});

test("a file of lines is submitted in batches, with the options of the form", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  await many(page, "file", "");
  await page.getByLabel("Task", { exact: true }).fill("report");
  await page.getByLabel("Priority", { exact: true }).fill("2");
  const calls = [];
  await page.route("**/SubmitJobs", (route) => (calls.push(1), route.continue()));
  await page.getByLabel("Or from a file").setInputFiles({
    name: "jobs.jsonl", mimeType: "application/json", buffer: Buffer.from(numbers(1, 1_200)),
  });
  await page.getByText("1,200 jobs").first().waitFor();
  await page.getByText("The first 3 of 1,200").waitFor();
  await page.getByRole("button", { name: "Submit 1,200 jobs" }).click();
  await page.locator("#outcome").getByText("Submitted 1,200 of 1,200 jobs").waitFor();
  assert.equal(calls.length, 3, "500, 500 and 200");
  assert.equal(await count("file"), 1_200);
  const { jobs } = await stack.call("ListJobs", { worker_id: "file", page_size: 1 });
  assert.deepEqual([jobs[0].payload_json, jobs[0].task, jobs[0].priority], ["1200", "report", 2]);
  assert.equal(await page.getByLabel("Payloads, one in each line").inputValue(), "", "they are submitted");
});

test("a run whose connection was lost goes on and submits nothing twice, also after a reload", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  await many(page, "lost", numbers(1, 1_100));
  let calls = 0;
  await page.route("**/SubmitJobs", async (route) => {
    calls += 1;
    if (calls === 1) return route.continue();
    // The second batch is stored; none of its answers arrives.
    if (calls === 2) await route.fetch();
    await route.abort();
  });
  await page.getByRole("button", { name: "Submit 1,100 jobs" }).click();
  const outcome = page.locator("#outcome");
  await outcome.getByText("Submitted 500 of 1,100 jobs").waitFor();
  await outcome.getByText("Not known: lines 501–1000: the answer was lost").waitFor();
  await outcome.getByText("Not submitted: lines 1001–1100: not sent").waitFor();
  assert.equal(await count("lost"), 1_000);
  await page.unroute("**/SubmitJobs");
  await page.reload();
  await page.getByRole("button", { name: "Submit 1,100 jobs" }).click();
  await outcome.getByText("Submitted 1,100 of 1,100 jobs, 1,000 of them by an earlier try").waitFor();
  assert.equal(await count("lost"), 1_100);
  forgive();
});

test("a run is stopped, and the report says what was not sent", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  await many(page, "stopped", numbers(1, 1_500));
  let first;
  await page.route("**/SubmitJobs", (route) => (first = route));
  await page.getByRole("button", { name: "Submit 1,500 jobs" }).click();
  await page.getByText("Submitting: 0 of 1,500").waitFor();
  await page.getByRole("progressbar", { name: "Submitting" }).waitFor();
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await until("the first call", () => first);
  await first.continue();
  const outcome = page.locator("#outcome");
  await outcome.getByText("Submitted 500 of 1,500 jobs").waitFor();
  await outcome.getByText("Not submitted: lines 501–1500: not sent").waitFor();
  assert.equal(await count("stopped"), 500);
});

test("what the server refuses of all lines stands at its field", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  await many(page, "refused", numbers(1, 3));
  await page.getByLabel("Priority", { exact: true }).fill("12");
  await page.getByRole("button", { name: "Submit 3 jobs" }).click();
  await page.locator("#field-priority-error", { hasText: "0 to 9" }).waitFor();
  await page.locator("#outcome").getByText("Submitted 0 of 3 jobs").waitFor();
  assert.equal(await count("refused"), 0);
  assert.equal(await page.getByLabel("Payloads, one in each line").inputValue(), numbers(1, 3));
});

test("recent jobs suggest tasks and begin a draft", async () => {
  await stack.submit({ worker_id: "recent", task: "first", payload_json: '{"n": 1.10}', priority: 3 });
  await stack.submit({ worker_id: "recent", task: "second", payload_json: "[]" });
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  await until("the worker_id to be known", async () =>
    (await page.locator("#worker-ids option").evaluateAll((all) => all.map((it) => it.value))).includes("recent"));
  await page.getByLabel("worker_id", { exact: true }).fill("recent");
  await until("suggestions", async () =>
    (await page.locator("#recent-tasks option").evaluateAll((all) => all.map((it) => it.value))).join() === "first,second");
  const choice = page.getByLabel("From a recent job");
  const value = await choice.locator("option", { hasText: "first" }).getAttribute("value");
  await choice.selectOption(value);
  await until("the payload", async () =>
    (await page.getByLabel("Payload", { exact: true }).inputValue()) === '{"n": 1.10}');
  assert.equal(await page.getByLabel("Priority", { exact: true }).inputValue(), "3");
  // Typed text is replaced only when that is asked for.
  await page.getByLabel("Payload", { exact: true }).fill("typed");
  await choice.selectOption(value);
  await page.getByRole("dialog").getByRole("button", { name: "Keep as it is" }).click();
  assert.equal(await page.getByLabel("Payload", { exact: true }).inputValue(), "typed");
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
