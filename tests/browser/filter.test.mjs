// The search field of the list of jobs: terms become chips, suggestions come while one types, errors name their place,
// and the tabs count the jobs of each status.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, until } from "./harness.mjs";

let stack;
let jobs;
before(async () => {
  stack = await Stack.start({ workers: [] });
  const submit = (job) => stack.submit({ payload_json: "{}", ...job });
  jobs = { failed: await submit({ worker_id: "mail", task: "email", payload_json: '{"customer": {"id": 42}}' }) };
  const session = await stack.session("mail");
  for (const { lease_id } of await session.acquire(1)) {
    await session.settle(lease_id, { fail: { error: "SMTP timed out after 30 s", permanent: true } });
  }
  jobs.ready = await submit({ worker_id: "mail", task: "email" });
  jobs.scheduled = await submit({ worker_id: "mail", task: "report", delay: { seconds: 3600 } });
  jobs.other = await submit({ worker_id: "etl \u202e x", task: "load", priority: 1 });
});
after(() => stack?.stop());

const field = (page) => page.getByRole("combobox", { name: "Filter" });
const chips = (page) => page.locator(".chip").allInnerTexts();
const q = (page) => new URL(page.url()).searchParams.get("q");
const tabs = (page) => page.getByRole("navigation", { name: "Status" });
const options = (page) => page.getByRole("listbox", { name: "Suggestions" }).getByRole("option");
const suggested = (page) => options(page).locator(".mono").allInnerTexts();

async function list(page, query = "") {
  await open(page, `${stack.base}/jobs${query}`, "Jobs");
  return page;
}

/** Waits until the list holds exactly these jobs. */
async function holds(page, names) {
  for (const [name, id] of Object.entries(jobs)) {
    await row(page, id).waitFor({ state: names.includes(name) ? "visible" : "detached" });
  }
}

async function enter(page, text) {
  await field(page).fill(text);
  await field(page).press("Enter");
}

test("terms become chips, narrow the list, and stand in the address", async () => {
  const page = await list(await stack.page());
  await holds(page, ["failed", "ready", "scheduled", "other"]);
  await enter(page, "task:email,report worker:mail");
  await holds(page, ["failed", "ready", "scheduled"]);
  assert.deepEqual(await chips(page), ["task:email,report", "worker:mail"]);
  assert.equal(q(page), "task:email,report worker:mail");
  assert.equal(await field(page).inputValue(), "");
  assert.ok(await field(page).evaluate((it) => it === document.activeElement), "one can type on");
  await enter(page, 'error:"timed OUT" age:<1h');
  await holds(page, ["failed"]);
  await page.reload();
  await holds(page, ["failed"]);
  await page.getByRole("button", { name: 'Remove error:"timed OUT"' }).click();
  await holds(page, ["failed", "ready", "scheduled"]);
  await page.goBack();
  await holds(page, ["failed"]);
  await page.getByRole("button", { name: "Clear filters" }).click();
  await holds(page, ["failed", "ready", "scheduled", "other"]);
  assert.equal(q(page), null);
});

for (const [text, found] of [
  ["payload.customer.id:42", ["failed"]],
  ["status:scheduled", ["scheduled"]],
  ["priority:0..3", ["other"]],
  ["reason:permanent attempts:1", ["failed"]],
  ["created:2020-01-01", []],
]) {
  test(`an address with ${text} is understood`, async () => {
    const page = await list(await stack.page(), `?q=${encodeURIComponent(text)}`);
    if (found.length === 0) await page.getByText("No job fits these filters").waitFor();
    await holds(page, found);
  });
}

test("the parameters of old addresses are terms", async () => {
  const page = await list(await stack.page(), "?worker_id=mail&status=pending&task=email");
  await holds(page, ["ready"]);
  assert.deepEqual(await chips(page), ["status:pending", "worker:mail", "task:email"]);
  await page.getByRole("button", { name: "Remove task:email" }).click();
  await holds(page, ["ready", "scheduled"]);
  assert.equal(q(page), "status:pending worker:mail");
});

test("an id alone opens the list with its job", async () => {
  const page = await list(await stack.page());
  await enter(page, jobs.other);
  await holds(page, ["other"]);
});

test("an error names its place below the field, and nothing typed is lost", async () => {
  const page = await list(await stack.page(), "?q=task%3Aemail");
  await holds(page, ["failed", "ready"]);
  const error = page.locator("#filter-error");
  for (const [text, said] of [
    ["status:faild", /^position 8: expected a status: pending, ready/],
    ["timeout", /error:timeout/],
    ["attempts:1 attempts:2", /given twice/],
  ]) {
    await enter(page, text);
    await error.getByText(said).waitFor();
    assert.equal(await field(page).inputValue(), text);
    assert.equal(await field(page).getAttribute("aria-invalid"), "true");
    await holds(page, ["failed", "ready"]);
  }
  await enter(page, "status:failed");
  await holds(page, ["failed"]);
  await until("the error to go", async () => (await error.innerText()) === "");

  const broken = await list(await stack.page(), "?q=status%3Afaild");
  await broken.locator("#filter-error").getByText(/position 8/).waitFor();
  assert.deepEqual(await chips(broken), ["status:faild"], "the chip can be removed");
});

test("suggestions are taken by keys and by the pointer", async () => {
  const page = await list(await stack.page());
  await row(page, jobs.ready).waitFor();
  await field(page).pressSequentially("sta");
  await until("keys to be suggested", async () => (await suggested(page)).join() === "status:");
  await page.keyboard.press("ArrowDown");
  const active = await field(page).getAttribute("aria-activedescendant");
  assert.equal(await page.locator(`#${active}`).getAttribute("aria-selected"), "true");
  await page.keyboard.press("Enter");
  assert.equal(await field(page).inputValue(), "status:");
  await page.keyboard.type("fai");
  await until("a status to be suggested", async () => (await suggested(page)).join() === "failed");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  assert.equal(await field(page).inputValue(), "status:failed");
  await page.keyboard.press("Enter");
  await holds(page, ["failed"]);

  await field(page).pressSequentially("worker:");
  await options(page).filter({ hasText: "mail" }).click();
  assert.equal(await field(page).inputValue(), "worker:mail");
  await page.keyboard.press("Enter");
  await until("the chip", async () => (await chips(page)).join(" ") === "status:failed worker:mail");

  await field(page).pressSequentially("task:");
  await until("tasks of the list", async () => (await suggested(page)).join() === "email");
  await page.keyboard.press("Escape");
  assert.equal(await options(page).count(), 0);
  assert.equal(await field(page).getAttribute("aria-expanded"), "false");
  await field(page).fill("");
  await page.keyboard.press("Backspace");
  await until("the last chip to be text again", async () => (await field(page).inputValue()) === "worker:mail");
  await until("its condition to be gone", () => q(page) === "status:failed");
});

test("tabs count the jobs of each status and choose one", async () => {
  const page = await list(await stack.page());
  const text = (name) => tabs(page).getByRole("link", { name }).innerText();
  const counts = async (expected) => {
    for (const [name, number] of Object.entries(expected)) {
      await until(`${name} ${number}`, async () => (await text(name)) === `${name} ${number}`);
    }
  };
  await counts({ All: "4", Ready: "2", Scheduled: "1", Retrying: "0", "No handler": "0", Running: "0", Failed: "1" });
  await enter(page, "worker:mail");
  await counts({ All: "3", Ready: "1", Scheduled: "1", Failed: "1" });
  await tabs(page).getByRole("link", { name: "Scheduled" }).click();
  await holds(page, ["scheduled"]);
  assert.equal(q(page), "status:scheduled worker:mail");
  assert.equal(await tabs(page).locator("[aria-current]").innerText(), "Scheduled 1");
  await counts({ All: "3", Ready: "1", Scheduled: "1", Failed: "1" });
  const more = await stack.submit({ worker_id: "mail", payload_json: "{}", delay: { seconds: 3600 } });
  await row(page, more).waitFor();
  await counts({ Scheduled: "2" });
  await stack.call("CancelJob", { job_id: more });
  await counts({ Scheduled: "1", Cancelled: "1" });
  await tabs(page).getByRole("link", { name: "All" }).click();
  await until("the status to be gone", () => q(page) === "worker:mail");
});

test("pages of a filter with an age belong together, and can be larger", async () => {
  const many = Array.from({ length: 120 }, () => ({ worker_id: "many", task: "page", payload_json: "{}" }));
  const { jobs: stored } = await stack.call("SubmitJobs", { jobs: many });
  const [oldest, newest] = [stored[0].job_id, stored[119].job_id];
  const page = await list(await stack.page(), `?q=${encodeURIComponent("task:page age:<1h")}`);
  const button = (name) => page.getByRole("button", { name, exact: true });
  await row(page, newest).waitFor();
  await button("Older").click();
  await row(page, stored[60].job_id).waitFor();
  await page.reload();
  await row(page, stored[60].job_id).waitFor();
  await button("Older").click();
  await row(page, oldest).waitFor();
  await button("Newer").click();
  await row(page, stored[60].job_id).waitFor();
  await page.getByLabel("Jobs per page").selectOption("200");
  await row(page, oldest).waitFor();
  assert.equal(await page.locator("tbody tr.opens").count(), 120);
  assert.equal(await page.getByLabel("Jobs per page").inputValue(), "200");
  assert.equal(await button("Older").count(), 0);
});

test("errors get two fifths of the width where there are any", async () => {
  for (const width of [1000, 1280, 1600]) {
    const page = await list(await stack.page({ viewport: { width, height: 800 } }), "?q=status%3Afailed");
    await row(page, jobs.failed).getByText("SMTP timed out after 30 s").waitFor();
    const wide = (selector) => page.locator(selector).first().evaluate((it) => it.getBoundingClientRect().width);
    const [error, whole] = [await wide("td.error-text"), await wide("tbody tr.opens")];
    assert.ok(error >= 0.4 * whole, `${error} of ${whole} px at ${width}`);
  }
  const none = await list(await stack.page(), "?q=status%3Ascheduled");
  await row(none, jobs.scheduled).waitFor();
  assert.equal(await none.locator("th.below").isVisible(), false);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
