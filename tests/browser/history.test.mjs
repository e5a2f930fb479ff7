// Back, Forward and a reload: the page, the way to newer pages and the scroll position are those that were left.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, until } from "./harness.mjs";

let stack;
let ids;
before(async () => {
  stack = await Stack.start({ workers: [] });
  const jobs = Array.from({ length: 130 }, () => ({ worker_id: "pages", payload_json: "{}" }));
  const { jobs: stored } = await stack.call("SubmitJobs", { jobs });
  ids = stored.map((it) => it.job_id).reverse();
  const session = await stack.session("letters", { slots: 60 });
  await stack.call("SubmitJobs", { jobs: jobs.slice(0, 60).map((job) => ({ ...job, worker_id: "letters" })) });
  for (const { lease_id } of await session.acquire(60)) {
    await session.settle(lease_id, { fail: { error: "SMTP 550", permanent: true } });
  }
});
after(() => stack?.stop());

const list = () => `${stack.base}/jobs?worker_id=pages`;
const button = (page, name) => page.getByRole("button", { name, exact: true });

/** Opens the job in a row by a click on the row, and waits for its page. */
async function enter(page, id) {
  await row(page, id).getByText("pages").click();
  await page.getByRole("heading", { level: 1, name: id }).waitFor();
}

test("the way to newer pages survives a job's page and a reload", async () => {
  const page = await stack.page();
  await open(page, list(), "Jobs");
  await row(page, ids[0]).waitFor();
  await button(page, "Older").click();
  await row(page, ids[50]).waitFor();
  await button(page, "Older").click();
  await row(page, ids[100]).waitFor();
  const address = page.url();
  await enter(page, ids[110]);
  await page.goBack();
  await row(page, ids[100]).waitFor();
  await button(page, "Newer").waitFor();
  await page.reload();
  await row(page, ids[100]).waitFor();
  await button(page, "Newer").click();
  await row(page, ids[50]).waitFor();
  await button(page, "Newer").click();
  await row(page, ids[0]).waitFor();
  await page.goBack();
  await page.goBack();
  await row(page, ids[100]).waitFor();
  await button(page, "Newer").waitFor();

  // The address says nothing of the way: it shows the same page to anybody.
  const other = await stack.page();
  await open(other, address, "Jobs");
  await row(other, ids[100]).waitFor();
  assert.equal(await button(other, "Newer").isVisible(), false);
  await button(other, "Newest").click();
  await row(other, ids[0]).waitFor();
});

test("the address names the page that is shown, after Back and Forward too", async () => {
  const page = await stack.page();
  await open(page, list(), "Jobs");
  await button(page, "Older").click();
  await row(page, ids[50]).waitFor();
  const second = page.url();
  await button(page, "Older").click();
  await row(page, ids[100]).waitFor();
  await page.goBack();
  await row(page, ids[50]).waitFor();
  await page.goForward();
  await row(page, ids[100]).waitFor();
  await button(page, "Newer").click();
  await row(page, ids[50]).waitFor();
  await until("the address to follow", () => page.url() === second);
  await page.reload();
  await row(page, ids[50]).waitFor();
  await page.goBack();
  await row(page, ids[100]).waitFor();
});

/** Scrolls a page, or an element of it, and waits until the page has heard of it. */
const scroll = (page, top, element) =>
  page.evaluate(async ([top, element]) => {
    const scrolled = element ? document.querySelector(element) : document.scrollingElement;
    const heard = new Promise((next) => addEventListener("scroll", next, { capture: true, once: true }));
    scrolled.scrollTop = top;
    await heard;
  }, [top, element]);

const position = (page, element) =>
  page.evaluate((element) => (element ? document.querySelector(element) : document.scrollingElement).scrollTop, element);

for (const [width, element] of [[1280, undefined], [768, "main .scroll-x"], [390, undefined]]) {
  test(`the scroll position survives Back, Forward and a reload at ${width} px`, async () => {
    const page = await stack.page({ viewport: { width, height: 700 } });
    const at = (top) => until(`the position ${top}`, async () => (await position(page, element)) === top);
    await open(page, list(), "Jobs");
    await row(page, ids[49]).waitFor();
    await scroll(page, 600, element);
    await page.reload();
    await row(page, ids[49]).waitFor();
    await at(600);
    await scroll(page, 500, element);
    const seen = await page.evaluate((element) => {
      const frame = element ? document.querySelector(element).getBoundingClientRect() : { top: 100, bottom: innerHeight };
      const links = [...document.querySelectorAll("tbody .lead a")];
      const inside = (box) => box.top > frame.top + 40 && box.bottom < Math.min(frame.bottom, innerHeight) - 60;
      return links.find((link) => inside(link.getBoundingClientRect())).title;
    }, element);
    await row(page, seen).getByRole("link").click();
    await page.getByRole("heading", { level: 1, name: seen }).waitFor();
    await until("the job's page to begin at its top", async () => (await position(page)) === 0);
    await page.goBack();
    await row(page, ids[49]).waitFor();
    await at(500);
    await page.goForward();
    await page.getByRole("heading", { level: 1, name: seen }).waitFor();
    await until("the job's page to begin at its top", async () => (await position(page)) === 0);
    await page.reload();
    await page.getByRole("heading", { level: 1, name: seen }).waitFor();
    await page.goBack();
    await row(page, ids[49]).waitFor();
    await at(500);
    // A link is no way back: it leads to the top.
    await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Jobs", exact: true }).click();
    await at(0);
  });
}

test("dead letters and workers keep their positions too", async () => {
  const page = await stack.page({ viewport: { width: 1280, height: 500 } });
  await Promise.all(Array.from({ length: 40 }, (_, n) => stack.session(`many-${n}`)));
  for (const [address, heading] of [["/dead-letters", "Dead letters"], ["/workers", "Workers"], ["/queues", "Queues"]]) {
    await open(page, `${stack.base}${address}`, heading);
    await page.locator("tbody tr.opens").nth(20).waitFor();
    await scroll(page, 400);
    await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Operations" }).click();
    await page.getByRole("heading", { level: 1, name: "Operations" }).waitFor();
    await page.goBack();
    await page.locator("tbody tr.opens").nth(20).waitFor();
    await until(`${heading} to be where it was`, async () => (await position(page)) === 400);
  }
});

test("a person who scrolls while a page loads is not moved", async () => {
  const page = await stack.page({ viewport: { width: 1280, height: 500 } });
  await open(page, list(), "Jobs");
  await row(page, ids[49]).waitFor();
  await scroll(page, 600);
  const held = [];
  let answered = false;
  await page.route("**/ListJobs", (route) => (answered ? route.continue() : void held.push(route)));
  await page.reload();
  await page.locator(".skeleton").first().waitFor();
  await page.mouse.move(600, 400);
  await page.mouse.wheel(0, 10);
  answered = true;
  await Promise.all(held.map((route) => route.continue()));
  await row(page, ids[49]).waitFor();
  await page.evaluate(async () => {
    for (let frames = 0; frames < 3; frames++) await new Promise(requestAnimationFrame);
  });
  assert.ok((await position(page)) < 600);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
