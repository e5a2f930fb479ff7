// Keys without Ctrl: pages, rows and actions by the keyboard, none of it while somebody types, and all of it can be
// switched off.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, short, until } from "./harness.mjs";

let stack;
let letters;
before(async () => {
  stack = await Stack.start();
  letters = [];
  for (let n = 0; n < 3; n++) letters.push(await stack.deadLetter());
});
after(() => stack?.stop());

const heading = (page, name) => page.getByRole("heading", { level: 1, name, exact: true }).waitFor();
const focused = (page) => page.evaluate(() => document.activeElement?.textContent ?? "");

test("two keys lead to each page", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  for (const [key, name] of [["j", "Jobs"], ["e", "Errors"], ["d", "Dead letters"], ["q", "Queues"], ["w", "Workers"], ["p", "Operations"], ["o", "Overview"]]) {
    await page.keyboard.press("g");
    await page.keyboard.press(key);
    await heading(page, name);
  }
  await page.keyboard.press("n");
  await page.getByRole("dialog", { name: "Submit" }).waitFor();
});

test("a question mark shows all keys, and Escape closes them", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/jobs`, "Jobs");
  await page.keyboard.press("?");
  const dialog = page.getByRole("dialog", { name: "Keys" });
  await dialog.getByText("Next row").waitFor();
  await page.keyboard.press("g");
  await page.keyboard.press("o");
  assert.equal(new URL(page.url()).pathname, "/jobs", "a dialog takes the keys for itself");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
});

test("rows are reached, selected and opened", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/dead-letters`, "Dead letters");
  await row(page, letters[0]).waitFor();
  await page.keyboard.press("j");
  await until("the first row", async () => (await focused(page)) === short(letters[2]));
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await until("the last row", async () => (await focused(page)) === short(letters[0]));
  await page.keyboard.press("k");
  await until("the row before", async () => (await focused(page)) === short(letters[1]));
  await page.keyboard.press("x");
  await page.getByText("1 selected").waitFor();
  assert.ok(await row(page, letters[1]).getByRole("checkbox").isChecked());
  await page.keyboard.press("x");
  await page.getByText("1 selected").waitFor({ state: "detached" });
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.pathname === `/jobs/${letters[1]}`);
});

test("r retries the job of the page", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${letters[0]}`, letters[0]);
  await page.getByRole("button", { name: "Retry job" }).waitFor();
  await page.keyboard.press("r");
  await page.locator(".toast", { hasText: "is pending again" }).waitFor();
});

test("t changes the theme and a slash leads to the search", async () => {
  const page = await stack.page({ colorScheme: "light" });
  await open(page, `${stack.base}/`, "Overview");
  await page.keyboard.press("t");
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  await page.keyboard.press("/");
  await until("the search", () => page.evaluate(() => document.activeElement.type === "search"));
  assert.equal(await page.getByRole("searchbox").inputValue(), "", "the slash is no text");
});

test("typed text, other shortcuts and the chart keep their keys", async () => {
  const page = await stack.page({ colorScheme: "light" });
  await open(page, `${stack.base}/dead-letters`, "Dead letters");
  await page.getByRole("searchbox").pressSequentially("tg jn?");
  await page.getByLabel("worker_id", { exact: true }).pressSequentially("go");
  await page.locator("h1").focus();
  for (const key of ["Control+j", "Alt+t", "Meta+n"]) await page.keyboard.press(key);
  await page.getByRole("button", { name: "Theme: system" }).waitFor();
  assert.equal(new URL(page.url()).pathname, "/dead-letters");
  assert.equal(await page.getByRole("searchbox").inputValue(), "tg jn?");
  assert.equal(await page.getByRole("dialog").count(), 0);
});

test("the keys can be switched off, and stay off", async () => {
  const page = await stack.page({ colorScheme: "light" });
  await open(page, `${stack.base}/jobs`, "Jobs");
  await page.keyboard.press("?");
  await page.getByLabel("Use keys without Ctrl").uncheck();
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
  await page.reload();
  await heading(page, "Jobs");
  for (const key of ["t", "?", "n", "g", "o"]) await page.keyboard.press(key);
  assert.equal(await page.getByRole("dialog").count(), 0);
  await page.getByRole("button", { name: "Theme: system" }).waitFor();
  assert.equal(new URL(page.url()).pathname, "/jobs");
  // The palette takes a key with Ctrl, and leads to the choice.
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox", { name: "Page, queue, action or id" }).fill("keys");
  await page.keyboard.press("Enter");
  await page.getByLabel("Use keys without Ctrl").check();
  await page.keyboard.press("Escape");
  await page.keyboard.press("t");
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
