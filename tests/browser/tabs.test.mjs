// Several tabs of the dashboard: they show the same theme, and a row opens another one as a link does.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, until } from "./harness.mjs";

let stack;
let letter;
let session;
before(async () => {
  stack = await Stack.start({ workers: [] });
  letter = await stack.submit({ worker_id: "mail", task: "email", payload_json: "{}" });
  session = await stack.session("mail", { lease: 600 });
  const [{ lease_id }] = await session.acquire(1);
  await session.settle(lease_id, { fail: { error: "SMTP 550", permanent: true } });
});
after(() => stack?.stop());

test("a theme that is chosen in one tab is followed by the others", async () => {
  const page = await stack.page({ colorScheme: "light" });
  const other = await page.context().newPage();
  for (const tab of [page, other]) await open(tab, `${stack.base}/`, "Overview");
  const ground = (tab) => tab.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground(other);
  await page.getByRole("button", { name: "Theme: system" }).click();
  await other.getByRole("button", { name: "Theme: dark" }).waitFor();
  assert.equal(await ground(other), await ground(page));
  assert.notEqual(await ground(other), light);
  await other.getByRole("button", { name: "Theme: dark" }).click();
  await page.getByRole("button", { name: "Theme: light" }).waitFor();
  await until("both to be light", async () => (await ground(page)) === light);
  await page.getByRole("button", { name: "Theme: light" }).click();
  await other.getByRole("button", { name: "Theme: system" }).waitFor();
});

/** Rows of each list, and the address that a click on the row opens. */
const rows = () => [
  ["/jobs", "Jobs", "td[data-label=Changed]", `/jobs/${letter}`],
  ["/dead-letters", "Dead letters", "td[data-label=Failed]", `/jobs/${letter}`],
  ["/workers", "Workers", "td[data-label=Host]", `/workers/${session.session_id}`],
  ["/queues", "Queues", "td[data-label=Sessions]", "/queues/mail"],
  ["/", "Overview", "td.error-text", `/jobs/${letter}`],
  ["/", "Overview", "td[data-label=Pending]", "/queues/mail"],
];

test("a row opens in a new tab as a link does, and the list stays", async () => {
  const page = await stack.page();
  for (const [address, heading, cell, opened] of rows()) {
    await open(page, stack.base + address, heading);
    for (const click of [{ button: "middle" }, { modifiers: ["ControlOrMeta"] }]) {
      const tab = page.context().waitForEvent("page");
      await page.locator(`tbody tr.opens ${cell}`).first().click(click);
      const other = await tab;
      await other.waitForURL(stack.base + opened);
      await other.close();
      assert.equal(page.url(), stack.base + address);
    }
  }
  // Neither a control in a row nor the right button opens anything.
  await open(page, `${stack.base}/dead-letters`, "Dead letters");
  const tabs = page.context().pages().length;
  await row(page, letter).getByRole("checkbox").click({ button: "middle" });
  await row(page, letter).locator("td[data-label=Failed]").click({ button: "right" });
  await row(page, letter).locator("td[data-label=Failed]").click();
  await page.getByRole("heading", { level: 1, name: letter }).waitFor();
  assert.equal(page.context().pages().length, tabs);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
