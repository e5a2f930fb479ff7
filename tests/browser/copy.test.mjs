// Copies of a job: an exact one, one that is edited, and what the job's page tells of its life and its lineage.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, mark, open, row, short, stayed, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start();
});
after(() => stack?.stop());

const path = (page) => new URL(page.url()).pathname;
const newest = async () => (await stack.call("ListJobs", { page_size: 1 })).jobs[0];

test("a failed job is edited and runs again as a new job", async () => {
  const job_id = await stack.deadLetter({ payload_json: '{"fail":true,"to":1.10}' });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, "email for worker-1a");
  await mark(page);
  await page.getByRole("button", { name: "Edit and rerun" }).click();
  const dialog = page.getByRole("dialog", { name: "Edit and rerun" });
  const payload = dialog.getByLabel("Payload", { exact: true });
  assert.equal(await payload.inputValue(), '{\n  "fail": true,\n  "to": 1.10\n}', "indented, and no digit is lost");
  await dialog.getByText("Nothing: the copy is exact.").waitFor();

  // Text that is no JSON is told with its place, and is not sent.
  await payload.fill('{\n  "fail": ,\n  "to": 1.10\n}');
  await dialog.getByText("Line 2, column 11: expected value").waitFor();
  await dialog.getByRole("button", { name: "Submit copy with 1 change" }).click();
  await dialog.locator("#field-changes-payload_json-error", { hasText: "line 2, column 11" }).waitFor();
  await until("the caret at the place", () =>
    payload.evaluate((it) => it === document.activeElement && it.value.slice(it.selectionStart).startsWith(",")));

  await payload.fill('{\n  "fail": false,\n  "to": 1.10\n}');
  await dialog.getByLabel("Priority", { exact: true }).fill("1");
  const changes = dialog.getByRole("region", { name: "Changes" });
  await changes.locator("del", { hasText: '"fail": true' }).waitFor();
  await changes.locator("ins", { hasText: '"fail": false' }).waitFor();
  assert.match(await changes.innerText(), /Priority: 5 → 1/);
  await dialog.getByRole("button", { name: "Submit copy with 2 changes" }).click();

  await until("the page of the copy", () => path(page).startsWith("/jobs/") && !path(page).endsWith(job_id));
  const copy_id = path(page).split("/").pop();
  await page.locator(".lineage", { hasText: "Copied from" }).getByRole("link", { name: short(job_id) }).waitFor();
  assert.ok(await stayed(page));
  await stack.settled(copy_id, "done");
  const { job } = await stack.call("GetJob", { job_id: copy_id });
  assert.deepEqual([job.payload_json, job.priority, job.task, job.origin],
    ['{\n  "fail": false,\n  "to": 1.10\n}', 1, "email", job_id]);
  const original = await stack.call("GetJob", { job_id });
  assert.deepEqual([original.job.status, original.job.payload_json], ["failed", '{"fail":true,"to":1.10}']);

  await page.locator(".lineage").getByRole("link", { name: short(job_id) }).click();
  await page.locator(".lineage", { hasText: "Copy:" }).getByRole("link", { name: short(copy_id) }).waitFor();
});

test("what is wrong with a copy stands at its field and nothing typed is lost", async () => {
  const job_id = await stack.submit({ worker_id: "nobody", task: "report", payload_json: "[1]" });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, "report for nobody");
  const edit = page.getByRole("button", { name: "Edit and rerun" });
  await edit.click();
  const dialog = page.getByRole("dialog", { name: "Edit and rerun" });
  await dialog.getByLabel("Priority", { exact: true }).fill("12");
  await dialog.getByLabel("Payload", { exact: true }).fill("[2]");
  await dialog.getByRole("button", { name: "Submit copy with 2 changes" }).click();
  await dialog.locator("#field-changes-priority-error", { hasText: "0 to 9" }).waitFor();
  await until("the wrong field to have the focus", () =>
    page.evaluate(() => document.activeElement.id === "field-changes-priority"));
  assert.equal(await dialog.getByLabel("Payload", { exact: true }).inputValue(), "[2]");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  assert.ok(await edit.evaluate((it) => it === document.activeElement), "the focus returns");
  assert.deepEqual((await stack.call("GetJob", { job_id })).copies, []);
});

test("a copy whose answer was lost is made once", async () => {
  const job_id = await stack.submit({ worker_id: "nobody", task: "lost", payload_json: "[1]" });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, "lost for nobody");
  let lost = 0;
  await page.route("**/CopyJob", async (route) => {
    if (lost++) return route.continue();
    // The server has carried it out; its answer does not arrive.
    await route.fetch();
    await route.abort();
  });
  await page.getByRole("button", { name: "Edit and rerun" }).click();
  const dialog = page.getByRole("dialog", { name: "Edit and rerun" });
  await dialog.getByLabel("Task", { exact: true }).fill("found");
  const submit = dialog.getByRole("button", { name: "Submit copy with 1 change" });
  await submit.click();
  await dialog.getByText("Submitting again makes no second copy").waitFor();
  await submit.click();
  await until("the page of the copy", () => !path(page).endsWith(job_id));
  assert.equal((await stack.call("GetJob", { job_id })).copies.length, 1);
  stack.problems = stack.problems.filter((it) => !/Failed to load resource|ERR_FAILED/.test(it));
});

test("a job is cloned after one question", async () => {
  const job_id = await stack.submit({ worker_id: "nobody", task: "clone", payload_json: "[1]", priority: 2 });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, "clone for nobody");
  await page.getByRole("button", { name: "Clone", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Clone job" }).click();
  await until("the page of the copy", () => !path(page).endsWith(job_id));
  const job = await newest();
  assert.equal(path(page), `/jobs/${job.id}`);
  assert.deepEqual([job.origin, job.task, job.payload_json, job.priority, job.status], [job_id, "clone", "[1]", 2, "pending"]);
});

test("a job is copied as the command that submits it", async () => {
  const job_id = await stack.submit({ worker_id: "nobody", task: "it's", payload_json: "[1]", idempotency_key: "mine" });
  const page = await stack.page({ permissions: ["clipboard-read", "clipboard-write"] });
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  await page.getByRole("button", { name: "Copy as grpcurl" }).click();
  const text = await until("the command", () => page.evaluate(() => navigator.clipboard.readText()));
  assert.match(text, /^grpcurl -plaintext -d '/);
  assert.ok(text.includes(String.raw`it'\''s`) && text.includes("JobService/SubmitJob") && !text.includes("mine"), text);
});

test("the life of a job is drawn to scale and told in words", async () => {
  const job_id = await stack.submit({ worker_id: "life", task: "slow", payload_json: "{}", max_retries: 3 });
  const session = await stack.session("life");
  const [leased] = await session.acquire();
  const page = await stack.page({ viewport: { width: 390, height: 900 } });
  await open(page, `${stack.base}/jobs/${job_id}`, "slow for life");
  await page.locator(".life-bar .ran.running").waitFor();
  await session.settle(leased.lease_id, { fail: { error: "no", retry_after: { seconds: 3_600 } } });
  await page.locator(".life-bar .next.retrying").waitFor();
  const caption = page.locator(".life figcaption");
  await until("the sums", async () => /^Waited .* and ran .* in 1 run; next attempt in 59 min\.$/.test(await caption.innerText()));
  const widths = await page.locator(".life-bar > span").evaluateAll((all) => all.map((it) => it.getBoundingClientRect().width));
  const total = widths.reduce((sum, it) => sum + it, 0);
  assert.ok(widths.at(-1) > 0.95 * total, `an hour to come is nearly all of it: ${widths}`);
  assert.ok(Math.min(...widths) >= 1, `what was short is still seen: ${widths}`);
  assert.match(await page.locator(".life-bar .ran").getAttribute("title"), /^Run 1 failed after/);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wider, 0);
});

test("times are shown in UTC on all pages once that is chosen", async () => {
  const job_id = await stack.submit({ worker_id: "nobody", task: "zone", payload_json: "{}" });
  const page = await stack.page({ timezoneId: "Asia/Kolkata" });
  await open(page, `${stack.base}/jobs/${job_id}`, "zone for nobody");
  const created = page.locator(".properties time").first();
  assert.match(await created.innerText(), /UTC\+05:30$/);
  await page.getByRole("button", { name: "UTC", exact: true }).click();
  await until("UTC", async () => /\d UTC$/.test(await created.innerText()));
  assert.match(await page.locator(".life-ends time").first().innerText(), /\d UTC$/);
  await open(page, `${stack.base}/jobs`, "Jobs");
  assert.match(await row(page, job_id).locator("time").first().getAttribute("title"), /\d UTC$/);
  await open(page, `${stack.base}/jobs/${job_id}`, "zone for nobody");
  await page.getByRole("button", { name: "Local time" }).click();
  await until("the browser's zone", async () => /UTC\+05:30$/.test(await created.innerText()));
});

test("a job leads to its neighbours in the list that it was opened from, and only there", async () => {
  const ids = [];
  for (let n = 0; n < 3; n++) ids.unshift(await stack.submit({ worker_id: "listed", payload_json: `${n}` }));
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${ids[1]}`, "Job for listed");
  assert.equal(await page.locator(".neighbours").count(), 0, "a direct visit");
  await open(page, `${stack.base}/jobs?worker_id=listed`, "Jobs");
  await row(page, ids[0]).getByRole("link").first().click();
  const neighbours = page.locator(".neighbours");
  await neighbours.getByText("1 of 3 in the list").waitFor();
  assert.equal(await neighbours.getByRole("link", { name: "Previous" }).count(), 0);
  await neighbours.getByRole("link", { name: "Next" }).click();
  await neighbours.getByText("2 of 3 in the list").waitFor();
  assert.equal(path(page), `/jobs/${ids[1]}`);
  await page.reload();
  await neighbours.getByRole("link", { name: "Next" }).click();
  await neighbours.getByText("3 of 3 in the list").waitFor();
  assert.equal(path(page), `/jobs/${ids[2]}`);
  // The way back leads to the list with its filter.
  await page.locator(".crumb").getByRole("link", { name: "Jobs" }).click();
  await until("the list", () => page.url().endsWith("/jobs?worker_id=listed"));
  // Another way to the same job is no part of the list.
  await page.getByRole("link", { name: "Overview" }).first().click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.getByLabel("Go to a job or session by its id").fill(ids[1]);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Job for listed" }).waitFor();
  assert.equal(await neighbours.count(), 0);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
