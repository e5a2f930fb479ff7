// Errors: failed attempts are listed by their error; a group has a page with its newest error, its figures and its dead
// letters, on which people decide what becomes of it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { AxeBuilder } from "@axe-core/playwright";

import { Stack, open, row, until } from "./harness.mjs";

const TITLE = "SMTP 550: no mailbox '…' (# ms)";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
});
after(() => stack?.stop());

/** Fails a job of a worker_id for good, with this error; returns its id. */
async function fail(error, { worker_id = "mail", task = "email" } = {}) {
  const id = await stack.submit({ worker_id, task, payload_json: "{}" });
  const session = await stack.session(worker_id);
  const [leased] = await session.acquire();
  await session.settle(leased.lease_id, { fail: { error, permanent: true } });
  await session.end();
  return id;
}

/** The group with this title, as the API has it. */
async function group(title) {
  const { groups } = await stack.call("ListErrorGroups", { page_size: 200 });
  return groups.find((it) => it.title === title);
}

const line = (page, title) => page.locator("tbody tr", { has: page.getByRole("link", { name: title }) });
const state = (page, word) => page.locator(".summary .pill", { hasText: word }).waitFor();

test("failures with the same error are one row, with their figures", async () => {
  for (const [name, ms] of [["anna", 17], ["berta", 4], ["carl", 230]]) {
    await fail(`SMTP 550: no mailbox '${name}' (${ms} ms)\n  at send`, { worker_id: name === "carl" ? "mail-2" : "mail" });
  }
  await fail("connection to 10.0.0.7:25 refused");
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: /^Errors/ }).click();
  await page.getByRole("heading", { level: 1, name: "Errors" }).waitFor();
  await page.getByText("2 groups").waitFor();
  const mail = line(page, TITLE);
  await mail.getByText("email · mail, mail-2").waitFor();
  await mail.locator(".pill.failed", { hasText: "open" }).waitFor();
  assert.deepEqual(await mail.locator("td.num").allTextContents(), ["3", "3"]);
  assert.match(await mail.locator(".error-spark path").getAttribute("d"), /^M/);
  await line(page, "connection to <address> refused").waitFor();
  const share = await mail.locator(".error-title").evaluate((cell) =>
    cell.getBoundingClientRect().width / cell.closest("table").getBoundingClientRect().width);
  assert.ok(share >= 0.4, `the error has ${share} of the width`);
  // New failures appear by themselves.
  await fail("disk is full");
  await line(page, "disk is full").waitFor();
  await page.getByText("3 groups").waitFor();
});

test("worker_id, state, time and order are chosen, and are in the address", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/errors`, "Errors");
  await line(page, TITLE).waitFor();
  await page.getByLabel("worker_id", { exact: true }).fill("mail-2");
  await page.getByLabel("worker_id", { exact: true }).press("Enter");
  await page.getByText("1 group", { exact: true }).waitFor();
  assert.deepEqual(await line(page, TITLE).locator("td.num").allTextContents(), ["1", "1"]);
  await page.getByLabel("Time").selectOption("7 days");
  await page.getByLabel("State").selectOption("Resolved");
  await page.getByText("None fits these filters.").waitFor();
  assert.equal(new URL(page.url()).search, "?worker_id=mail-2&state=resolved&window=7d");
  await page.reload();
  assert.equal(await page.getByLabel("State").inputValue(), "resolved");
  await page.getByRole("button", { name: "Clear filters" }).click();
  await page.getByLabel("Order").selectOption("Dead letters");
  await until("the group with most dead letters to be first", async () =>
    (await page.locator("tbody tr .error-title a").first().textContent()) === TITLE);
  await page.getByRole("link", { name: "All dead letters" }).click();
  await page.getByRole("heading", { level: 1, name: "Dead letters" }).waitFor();
});

test("a group's page shows the newest error in full, its figures, and its dead letters", async () => {
  const { id } = await group(TITLE);
  const newest = await fail("SMTP 550: no mailbox 'dora' (9 ms)\n  at send\n  at main");
  const page = await stack.page();
  await open(page, `${stack.base}/errors`, "Errors");
  await line(page, TITLE).click();
  await page.getByRole("heading", { level: 1, name: TITLE }).waitFor();
  assert.equal(new URL(page.url()).pathname, `/errors/${id}`);
  await until("the heading to have the focus", () => page.evaluate(() => document.activeElement.tagName === "H1"));
  assert.equal(await page.locator(".sample").textContent(), "SMTP 550: no mailbox 'dora' (9 ms)\n  at send\n  at main");
  await page.locator(".summary", { hasText: "4 failed attempts" }).waitFor();
  await page.locator(".summary", { hasText: "4 dead letters" }).waitFor();
  await page.locator(".columns tr", { hasText: "mail-2" }).waitFor();
  await row(page, newest).getByText("permanent failure").waitFor();

  const chart = page.getByRole("slider", { name: "Failed attempts by time" });
  await until("the last slot to be told", async () =>
    /: 4 failed attempts, 4 new dead letters$/.test(await chart.getAttribute("aria-valuetext")));
  await chart.focus();
  await page.keyboard.press("Home");
  assert.match(await chart.getAttribute("aria-valuetext"), /: 0 failed attempts, 0 new dead letters$/);
  await page.getByRole("button", { name: "1 h" }).click();
  await until("the slots to be minutes", async () => (await chart.getAttribute("aria-valuemax")) === "59");
  await page.getByRole("button", { name: "Show as table" }).click();
  assert.equal(await page.locator(".chart-card tbody tr").count(), 60);
});

test("a group is resolved, regresses when it fails again, and is ignored", async () => {
  await fail("the printer burns");
  const { id } = await group("the printer burns");
  const page = await stack.page();
  await open(page, `${stack.base}/errors/${id}`, "the printer burns");
  await state(page, "open");
  const settle = page.getByRole("button", { name: "Resolve" });
  await settle.focus();
  await page.keyboard.press("Enter");
  await state(page, "resolved");
  assert.equal(await page.evaluate(() => document.activeElement.textContent.trim()), "Reopen", "the focus stays");
  await fail("the printer burns");
  await state(page, "regressed");
  await page.getByLabel("Ignore for how long").selectOption("for 100 more failed attempts");
  await page.getByRole("button", { name: "Ignore", exact: true }).click();
  await state(page, "ignored");
  await page.locator(".summary", { hasText: "open again after 100 failed attempts" }).waitFor();
  assert.equal((await group("the printer burns")).ignored_attempts, 100);
  await page.getByRole("button", { name: "Reopen" }).click();
  await state(page, "open");
});

test("a note and a link are kept, and what is typed is not lost", async () => {
  await fail("note me");
  const { id } = await group("note me");
  const page = await stack.page();
  await open(page, `${stack.base}/errors/${id}`, "note me");
  await page.getByLabel("Note", { exact: true }).fill("known since Monday");
  await page.getByLabel("Link", { exact: true }).fill("javascript:alert(1)");
  // A refresh comes while it is typed.
  await fail("note me");
  await page.locator(".summary", { hasText: "2 failed attempts" }).waitFor();
  assert.equal(await page.getByLabel("Note", { exact: true }).inputValue(), "known since Monday");
  await page.getByRole("button", { name: "Save note" }).click();
  await page.locator("#group-link-error", { hasText: "http:// or https://" }).waitFor();
  assert.equal(await page.getByLabel("Link", { exact: true }).getAttribute("aria-invalid"), "true");
  await page.getByLabel("Link", { exact: true }).fill("https://example.org/issues/7");
  await page.getByRole("button", { name: "Save note" }).click();
  const link = page.getByRole("link", { name: "https://example.org/issues/7" });
  await link.waitFor();
  assert.equal(await link.getAttribute("rel"), "noopener noreferrer");
  await page.reload();
  await until("the note to be there again", async () =>
    (await page.getByLabel("Note", { exact: true }).inputValue()) === "known since Monday");
});

test("all dead letters of a group are retried by an operation that is counted first", async () => {
  for (let n = 0; n < 3; n++) await fail("out of paper", { worker_id: "printer" });
  const { id } = await group("out of paper");
  const page = await stack.page();
  await open(page, `${stack.base}/errors/${id}`, "out of paper");
  await page.getByRole("link", { name: "Retry all 3…" }).click();
  await page.getByRole("heading", { level: 1, name: "New operation" }).waitFor();
  assert.equal(new URL(page.url()).searchParams.get("filter"), `status:failed group:${id}`);
  await page.getByRole("button", { name: "Count the jobs" }).click();
  await page.getByLabel("Reason").fill("the printer has paper");
  await page.getByRole("button", { name: "Retry 3 jobs" }).click();
  await until("the dead letters to be gone", async () => (await group("out of paper")).dead_letters === 0);
  await page.goto(`${stack.base}/errors/${id}`);
  await page.getByText("Jobs with this error were retried").waitFor();
  await page.locator(".summary", { hasText: "0 dead letters" }).waitFor();
});

test("a dead letter leads to the others like it", async () => {
  const ids = [await fail("like this 1"), await fail("like this 2")];
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${ids[0]}`, ids[0]);
  await page.getByRole("link", { name: "2 dead letters like this" }).click();
  await page.getByRole("heading", { level: 1, name: "like this #" }).waitFor();
  await row(page, ids[1]).waitFor();
});

test("a group that does not exist, and a server that is away, are told", async () => {
  const page = await stack.page();
  for (const id of ["0123456789abcdef", "nonsense"]) {
    await page.goto(`${stack.base}/errors/${id}`);
    await page.getByText("No error group has this id").waitFor();
  }
  await page.route("**/ListErrorGroups", (route) => route.abort());
  await page.goto(`${stack.base}/errors`);
  await page.getByText("Nothing to show yet").waitFor();
  await page.unroute("**/ListErrorGroups");
  await line(page, TITLE).waitFor();
  // The browser itself reports the requests that were not answered.
  stack.problems = stack.problems.filter((it) => !it.includes("ERR_FAILED"));
});

for (const [viewport, width] of [["wide", 1280], ["narrow", 390]]) {
  test(`axe finds nothing serious and nothing scrolls sideways, ${viewport}, light and dark`, async () => {
    await fail(`a very long error ${"without a blank".replaceAll(" ", "-").repeat(20)}`, { worker_id: "w".repeat(100) });
    const { id } = await group(TITLE);
    const page = await stack.page({ viewport: { width, height: 900 }, reducedMotion: "reduce" });
    for (const [address, heading, filled] of [["/errors", "Errors", "td.lead a"], [`/errors/${id}`, TITLE, ".group-letters td.lead a"]]) {
      await open(page, `${stack.base}${address}`, heading);
      await page.locator(filled).first().waitFor();
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        const { violations } = await new AxeBuilder({ page }).analyze();
        const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
        const told = grave.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 160)).join("\n  ")}`);
        assert.deepEqual(told, [], `${address}, ${colorScheme}`);
      }
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(wider, 0, address);
    }
  });
}

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
