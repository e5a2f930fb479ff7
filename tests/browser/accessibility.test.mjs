// Accessibility of every page filled with data: axe-core in the light and dark theme, wide and narrow, and use by
// keyboard alone.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { AxeBuilder } from "@axe-core/playwright";

import { Stack, open, until } from "./harness.mjs";

let stack;
let letter;
let stuck;
let session;
let operation;
before(async () => {
  stack = await Stack.start();
  const ids = [];
  for (let n = 0; n < 3; n++) ids.push(await stack.deadLetter());
  letter = ids[0];
  const done = await stack.submit({ worker_id: "worker-1a", payload_json: '{"task":"email"}' });
  await stack.settled(done, "done");
  await stack.submit({ worker_id: "worker-1a", payload_json: '{"sleep_ms":600000}' });
  stuck = await stack.submit({ worker_id: "nobody", task: "report", payload_json: "{}" });
  await stack.submit({ worker_id: "nobody", payload_json: "{}", delay: { seconds: 3600 } });
  const cancelled = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  await stack.call("CancelJob", { job_id: cancelled, reason: "not needed" });
  await stack.call("PauseWorkerId", { worker_id: "nobody", reason: "the mail server is down" });
  const { sessions } = await stack.call("ListWorkers", { worker_id: "worker-1a" });
  session = sessions[0].session_id;
  const spec = { kind: "delete", filter: { ids: [cancelled, stuck] }, reason: "tidying up", rate: 1 };
  ({ operation } = await stack.call("StartOperation", { spec }));
});
after(() => stack?.stop());

/** Address and heading of each page, and an element that exists once the page is filled. */
const pages = () => [
  ["/", "Overview", "main .explains .paused"],
  ["/jobs", "Jobs", "td.lead a"],
  ["/dead-letters", "Dead letters", "td.lead a"],
  ["/queues", "Queues", ".spark"],
  ["/queues/nobody", "nobody", ".empty code"],
  ["/queues/worker-1a", "worker-1a", "tr.group"],
  ["/workers", "Workers", "td.lead a"],
  ["/operations", "Operations", "td.lead a"],
  ["/operations/new", "New operation", "#field-filter"],
  [`/operations/${operation.id}`, operation.id, ".op-head progress"],
  ["/submit", "Submit", "textarea"],
  [`/jobs/${letter}`, letter, ".timeline .event"],
  [`/jobs/${stuck}`, stuck, ".why button"],
  [`/workers/${session}`, session, "td.lead a"],
];

async function check(page, what) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = grave.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 160)).join("\n  ")}`);
  assert.deepEqual(told, [], what);
}

const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
const GROUNDS = { light: "rgb(246, 247, 249)", dark: "rgb(14, 19, 26)" };

for (const [viewport, width] of [["wide", 1280], ["narrow", 390]]) {
  test(`axe finds nothing serious, ${viewport}, light and dark`, async () => {
    const page = await stack.page({ colorScheme: "light", viewport: { width, height: 900 }, reducedMotion: "reduce" });
    for (const [address, heading, filled] of pages()) {
      await open(page, `${stack.base}${address}`, heading);
      await page.locator(filled).first().waitFor();
      for (const theme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme: theme });
        assert.equal(await ground(page), GROUNDS[theme], `${address} must be ${theme}`);
        await check(page, `${address}, ${theme}, ${viewport}`);
      }
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(wider, 0, `${address} must not scroll sideways, ${viewport}`);
    }
    // The selection bar and the dialog exist only while dead letters are selected.
    await open(page, `${stack.base}/dead-letters`, "Dead letters");
    await page.getByLabel("Select all on this page").check();
    await page.getByRole("button", { name: "Retry 3", exact: true }).click();
    await page.getByRole("dialog").waitFor();
    await check(page, `dialog, ${viewport}`);
    // A retry under way, whose calls are not answered.
    await page.route("**/RetryJob", () => {});
    await page.getByRole("dialog").getByRole("button", { name: "Retry 3 dead letters" }).click();
    await page.getByRole("region", { name: "Retry of many jobs" }).waitFor();
    for (const theme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: theme });
      await check(page, `retry under way, ${theme}, ${viewport}`);
    }
  });
}

test("the theme is the system's until one is chosen, and the choice is kept", async () => {
  const page = await stack.page({ colorScheme: "light" });
  await open(page, `${stack.base}/`, "Overview");
  assert.equal(await ground(page), GROUNDS.light);
  await page.getByRole("button", { name: "Theme: system" }).click();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  assert.equal(await ground(page), GROUNDS.dark);
  await page.reload();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  assert.equal(await ground(page), GROUNDS.dark);
});

test("the keyboard alone reaches the content and the pages", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
  await page.keyboard.press("Enter");
  await until("the content to have the focus", () => page.evaluate(() => document.activeElement.id === "content"));
  await page.getByRole("link", { name: "Queues" }).first().focus();
  await page.keyboard.press("Enter");
  await until("the heading to have the focus", () =>
    page.evaluate(() => document.activeElement.tagName === "H1" && document.activeElement.textContent === "Queues"));
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
