// The dashboard as a document: its status for addresses without a page, on paper, and without JavaScript.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row } from "./harness.mjs";

const ERROR = `first line\n${"at mail::smtp::deliver (src/smtp.rs:42)\n".repeat(40)}last line`;

let stack;
let letter;
let session;
before(async () => {
  stack = await Stack.start({ workers: [] });
  const payload_json = JSON.stringify({ rows: Array.from({ length: 60 }, (_, n) => `row ${n}`) });
  letter = await stack.submit({ worker_id: "mail", task: "email", payload_json });
  session = await stack.session("mail", { lease: 600 });
  const [{ lease_id }] = await session.acquire(1);
  await session.settle(lease_id, { fail: { error: ERROR, permanent: true } });
});
after(() => stack?.stop());

/** Status of the answer to a browser that goes to a path. */
async function status(path) {
  const answer = await fetch(stack.base + path, { headers: { accept: "text/html,*/*;q=0.8" } });
  await answer.text();
  return answer.status;
}

test("an address without a page answers 404, and the page says so", async () => {
  const context = await stack.browser.newContext();
  const page = await context.newPage();
  for (const path of ["/nothing", "/jobs/x/y", "/dead-letters/x", "/index.html"]) {
    const answer = await page.goto(stack.base + path);
    assert.equal(answer.status(), 404, path);
    await page.getByRole("heading", { level: 1, name: "No such page" }).waitFor();
  }
  await context.close();
});

test("every page of the dashboard answers 200", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  const links = await page.getByRole("navigation", { name: "Pages" }).getByRole("link").evaluateAll((links) =>
    links.map((link) => link.getAttribute("href")));
  assert.ok(links.length >= 5);
  for (const path of [...links, "/jobs/", "/queues/mail", `/jobs/${letter}`, `/workers/${session.session_id}`, "/jobs?status=failed"]) {
    assert.equal(await status(path), 200, path);
    await page.goto(stack.base + path);
    await page.locator("h1").waitFor();
    assert.notEqual(await page.locator("h1").innerText(), "No such page", path);
  }
});

test("without JavaScript the page says what it needs", async () => {
  const context = await stack.browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(`${stack.base}/jobs`);
  const text = await page.locator("body").innerText();
  assert.match(text, /needs JavaScript and WebAssembly/);
  assert.doesNotMatch(text, /Loading/);
  await context.close();
});

test("without WebAssembly the page says what it needs", async () => {
  const page = await stack.page();
  await page.addInitScript(() => delete window.WebAssembly);
  await page.goto(`${stack.base}/jobs`);
  await page.getByRole("alert").getByText("needs WebAssembly").waitFor();
});

/** Elements of the page that are cut off or scroll. */
const cut = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll("main *")]
      .filter((it) => it.offsetParent && getComputedStyle(it).overflow !== "visible" && !it.matches(".unseen, .unseen *, meter, progress"))
      .filter((it) => it.scrollHeight > it.clientHeight + 1 || it.scrollWidth > it.clientWidth + 1)
      .map((it) => `${it.tagName} ${it.className}`));

test("a job on paper is whole, dark on light, and has nothing to press", async () => {
  // The width of a sheet between its margins.
  const page = await stack.page({ viewport: { width: 718, height: 1000 }, colorScheme: "dark" });
  await open(page, `${stack.base}/jobs/${letter}`, letter);
  await page.locator(".timeline details").first().waitFor();
  await page.emulateMedia({ media: "print" });
  for (const name of ["Pages"]) assert.equal(await page.getByRole("navigation", { name }).isVisible(), false);
  for (const element of [".top", "main button", ".crumb"]) {
    assert.equal(await page.locator(`${element}:visible`).count(), 0, element);
  }
  assert.deepEqual(await cut(page), []);
  assert.ok(await page.locator(".timeline pre", { hasText: "last line" }).isVisible(), "the whole error");
  for (const text of [letter, "row 59", "Dead letter: permanent failure."]) {
    assert.ok(await page.locator("main").getByText(text).first().isVisible(), text);
  }
  const colour = await page.locator("h1").evaluate((it) => getComputedStyle(it).color);
  assert.equal(colour, "rgb(22, 32, 44)");
  const { sheets, text } = await page.evaluate(() => ({
    sheets: document.documentElement.scrollHeight / 1000,
    text: document.querySelector(".properties").innerText,
  }));
  assert.ok(sheets < 6, `${sheets} sheets`);
  assert.match(text, /\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/);
});

test("lists on paper have all their columns and texts, and times that can be read later", async () => {
  const page = await stack.page({ viewport: { width: 718, height: 1000 }, colorScheme: "dark" });
  for (const [address, heading] of [["/jobs", "Jobs"], ["/dead-letters", "Dead letters"], ["/workers", "Workers"], ["/", "Overview"]]) {
    await page.emulateMedia({ media: "screen" });
    await open(page, stack.base + address, heading);
    await page.locator("tbody tr.opens").first().waitFor();
    await page.emulateMedia({ media: "print" });
    assert.deepEqual(await cut(page), [], address);
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(wider, 0, `${address} fits on the sheet`);
    for (const element of [".rail", ".top", ".filters", ".pager", "main button", "main input"]) {
      assert.equal(await page.locator(`${element}:visible`).count(), 0, `${address} ${element}`);
    }
    if (address === "/") continue;
    const time = await page.locator("td time").first().evaluate((it) => getComputedStyle(it, "::after").content);
    assert.match(time, /\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/);
  }
  await page.emulateMedia({ media: "screen" });
  await open(page, `${stack.base}/dead-letters`, "Dead letters");
  await row(page, letter).waitFor();
  await page.emulateMedia({ media: "print" });
  const error = await page.locator("td.error-text").evaluate((it) => it.getBoundingClientRect().height);
  assert.ok(error > 20, "an error may take several lines");
});

test("the chart has the width of the paper, whatever width the window had", async () => {
  const page = await stack.page({ viewport: { width: 718, height: 1000 } });
  await open(page, `${stack.base}/`, "Overview");
  const svg = page.locator(".plot svg");
  await svg.waitFor();
  await page.emulateMedia({ media: "print" });
  // A window is not measured again for the paper: the chart has the size that it had.
  const widths = await svg.evaluate((it) => {
    it.setAttribute("width", "1200");
    return [it.getBoundingClientRect().width, it.parentElement.clientWidth];
  });
  assert.equal(widths[0], widths[1]);
});

test("a long error takes a few lines on a phone", async () => {
  const page = await stack.page({ viewport: { width: 390, height: 800 } });
  await open(page, `${stack.base}/dead-letters`, "Dead letters");
  const height = await page.locator("td.error-text").evaluate((it) => it.getBoundingClientRect().height);
  assert.ok(height > 40 && height < 110, `${height} px`);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
