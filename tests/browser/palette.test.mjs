// The palette: pages, queues, actions of the page, ids and saved views from one field, by the keyboard alone.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { AxeBuilder } from "@axe-core/playwright";

import { Stack, open, until } from "./harness.mjs";

let stack;
let letter;
before(async () => {
  stack = await Stack.start();
  letter = await stack.deadLetter();
  for (const worker_id of ["mail-eu", "mail-us", "a/b%"]) await stack.submit({ worker_id, payload_json: "{}" });
});
after(() => stack?.stop());

const field = (page) => page.getByRole("combobox", { name: "Page, queue, action or id" });
const options = (page) => page.getByRole("listbox", { name: "Found" }).getByRole("option");
const heading = (page, name) => page.getByRole("heading", { level: 1, name, exact: true }).waitFor();

/** A page whose queues are known. */
async function ready(address, name) {
  const page = await stack.page();
  await open(page, `${stack.base}${address}`, name);
  await until("the worker_ids", async () => (await page.locator("#worker-ids option").count()) >= 4);
  return page;
}

/** Words of the chosen option, by the field's reference to it. */
const chosen = async (page) => {
  const id = await field(page).getAttribute("aria-activedescendant");
  assert.equal(await page.locator(`#${id}`).getAttribute("aria-selected"), "true");
  return page.locator(`#${id} .option-words`).innerText();
};

test("a few letters and Enter lead to a queue", async () => {
  const page = await ready("/jobs", "Jobs");
  await page.keyboard.press("Control+k");
  await until("the focus in the field", () => field(page).evaluate((it) => it === document.activeElement));
  await page.keyboard.type("mleu");
  await until("one option", async () => (await options(page).count()) === 1);
  assert.equal(await chosen(page), "mail-eu");
  await page.keyboard.press("Enter");
  await heading(page, "mail-eu");
  assert.equal(await page.getByRole("dialog").count(), 0);
  await page.keyboard.press("Control+k");
  await page.keyboard.type("a/b");
  await page.keyboard.press("Enter");
  await heading(page, "a/b%");
});

test("arrows move through the options while the focus stays in the field", async () => {
  const page = await ready("/", "Overview");
  await page.getByRole("button", { name: "Go to or do Ctrl K" }).click();
  await page.keyboard.type("mail");
  await until("both", async () => (await options(page).count()) === 2);
  assert.equal(await chosen(page), "mail-eu");
  await page.keyboard.press("ArrowDown");
  assert.equal(await chosen(page), "mail-us");
  await page.keyboard.press("ArrowDown");
  assert.equal(await chosen(page), "mail-eu", "around");
  await page.keyboard.press("ArrowUp");
  assert.equal(await chosen(page), "mail-us");
  assert.ok(await field(page).evaluate((it) => it === document.activeElement));
  await page.keyboard.type("xyz");
  await page.getByText("Nothing fits.").waitFor();
  assert.equal(await field(page).getAttribute("aria-expanded"), "false");
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  await page.keyboard.press("Control+k");
  assert.equal(await field(page).inputValue(), "", "it begins anew");
  await page.keyboard.press("Control+k");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
});

test("what the page can do is offered there, and nowhere else", async () => {
  const page = await ready(`/jobs/${letter}`, letter);
  await page.getByRole("button", { name: "Retry job" }).waitFor();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("delete job");
  assert.equal(await chosen(page), "Delete job");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog", { name: "Delete this job?" }).getByRole("button", { name: "Keep as it is" }).click();
  await open(page, `${stack.base}/jobs`, "Jobs");
  await page.keyboard.press("Control+k");
  await page.keyboard.type("delete job");
  await page.getByText("Nothing fits.").waitFor();
});

test("a pasted id is opened", async () => {
  const page = await ready("/", "Overview");
  await page.keyboard.press("Control+k");
  await field(page).fill(`job ${letter} failed`);
  assert.equal(await chosen(page), `Open the job or session ${letter}`);
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.pathname === `/jobs/${letter}`);
});

test("a view is saved under a name, found again, and removed", async () => {
  const page = await ready("/jobs?worker_id=mail-eu", "Jobs");
  await page.getByRole("button", { name: "Save view" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("Mail of <b>Europe</b>");
  await page.keyboard.press("Enter");
  await page.locator(".toast", { hasText: "View saved" }).waitFor();
  await page.goto(`${stack.base}/`);
  await heading(page, "Overview");
  await page.keyboard.press("Control+k");
  await page.keyboard.type("of europe");
  assert.equal(await chosen(page), "Mail of <b>Europe</b>");
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.pathname === "/jobs" && url.search === "?worker_id=mail-eu");
  const views = page.getByRole("list", { name: "Saved views" });
  await views.getByRole("link", { name: "Mail of <b>Europe</b>" }).waitFor();
  await views.getByRole("button", { name: "Remove view" }).click();
  await views.waitFor({ state: "detached" });
});

test("the palette and the keys are accessible, light and dark, wide and narrow", async () => {
  for (const width of [1280, 390]) {
    const page = await stack.page({ viewport: { width, height: 800 }, reducedMotion: "reduce" });
    await open(page, `${stack.base}/`, "Overview");
    for (const [press, dialog] of [["Control+k", ".dialog.palette"], ["?", ".dialog.keys"]]) {
      await page.keyboard.press(press);
      await page.locator(dialog).waitFor();
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        const { violations } = await new AxeBuilder({ page }).include(dialog).analyze();
        assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`), [], `${dialog} ${colorScheme} ${width}`);
      }
      const wider = await page.locator(dialog).evaluate((it) => it.scrollWidth - it.clientWidth);
      assert.ok(wider <= 0, `${dialog} at ${width} px`);
      await page.keyboard.press("Escape");
      await page.locator(dialog).waitFor({ state: "hidden" });
      // The page hears of the closing by an event, which comes before the next frame.
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    }
  }
});

test("the tab tells failures by its title and its icon", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/queues`, "Queues");
  const icon = () => page.locator("link[rel=icon]").getAttribute("href");
  await until("the failures in the title", async () => (await page.title()) === "(1 failed) Queues · jobqueue");
  await until("the mark", async () => (await icon()).includes("D92D20"));
  const calm = await stack.page();
  await calm.route("**/GetMetrics", () => {});
  await open(calm, `${stack.base}/queues`, "Queues");
  await until("a calm title", async () => (await calm.title()) === "Queues · jobqueue");
  assert.ok(!(await calm.locator("link[rel=icon]").getAttribute("href")).includes("D92D20"));
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
