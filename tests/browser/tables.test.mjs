// Tables: no column is cut off, errors get the width, and the header stays in sight however long the list is.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, change, open, until } from "./harness.mjs";

const SESSIONS = 200;
const JOBS = 60;
/** Worker_id with more jobs than a window is high. */
const BUSY = "mail-transactional-europe-1";

let stack;
let busy;
before(async () => {
  stack = await Stack.start({ workers: [] });
  const job = { worker_id: BUSY, task: "send-password-reset-mail", payload_json: "{}" };
  await stack.call("SubmitJobs", { jobs: Array.from({ length: 2 * JOBS }, () => job) });
  busy = await stack.session(BUSY, { slots: JOBS, lease: 3_600, host: "worker-7f9c6d5b8-x2x4q.mail.svc.cluster.local", tasks: [job.task] });
  const leased = await busy.acquire(2 * JOBS);
  const error = "SMTP 550 5.1.1 The email account that you tried to reach does not exist; see the log of the relay";
  for (const { lease_id } of leased.slice(JOBS)) await busy.settle(lease_id, { fail: { error, permanent: true } });
  const names = Array.from({ length: SESSIONS }, (_, n) => `batch-import-${n}`);
  await Promise.all(names.map((name) => stack.session(name, { tasks: ["import"], lease: 3_600 })));
  await stack.call("PauseWorkerId", { worker_id: names[0], reason: "maintenance" });
});
after(() => stack?.stop());

/** Opens a page and waits until its last list has more rows than a window is high; those of the overview and of a queue have eight. */
async function filled(page, address, heading) {
  await open(page, `${stack.base}${address}`, heading);
  const rows = page.locator("main table").last().locator("tr.opens");
  await until(`the rows of ${heading}`, async () => (await rows.count()) >= (address === "/" || address === `/queues/${BUSY}` ? 8 : 50));
}

/** Address, heading and the narrowest window in which no table of the page scrolls sideways. */
const lists = () => [
  ["/", "Overview", 1200],
  ["/queues", "Queues", 1200],
  [`/queues/${BUSY}`, BUSY, 1200],
  ["/jobs", "Jobs", 1000],
  ["/dead-letters", "Dead letters", 768],
  ["/workers", "Workers", 1200],
  [`/workers/${busy.session_id}`, busy.session_id, 1000],
];

test("no column is cut off in a window that has room for it", async () => {
  const page = await stack.page();
  const long = (counts) => Object.assign(counts, { pending: 1_234_567, running: 123_456, oldest_runnable_age: { seconds: 3_540 } });
  await change(page, "GetMetrics", (answer) => answer.worker_ids.forEach(long));
  const found = [];
  for (const [address, heading, narrowest] of lists()) {
    await filled(page, address, heading);
    for (const width of [768, 1000, 1200, 1280, 1366, 1440, 1920].filter((it) => it >= narrowest)) {
      await page.setViewportSize({ width, height: 900 });
      const cut = await page.evaluate(() =>
        [...document.querySelectorAll("main table :is(th, td, td button)")]
          .filter((cell) => cell.getBoundingClientRect().right > cell.closest(".scroll-x").getBoundingClientRect().right + 0.5)
          .map((cell) => cell.textContent || cell.getAttribute("aria-label")));
      if (cut.length) found.push(`${address} at ${width} px: ${[...new Set(cut)].slice(0, 3)}`);
    }
  }
  assert.deepEqual(found, []);
});

test("an error has at least 40 % of a list, and a line of its own where the window is narrow", async () => {
  const page = await stack.page();
  for (const [address, heading] of [["/dead-letters", "Dead letters"], ["/", "Overview"]]) {
    await filled(page, address, heading);
    for (const width of [640, 768, 1024, 1099, 1280, 1440, 1600, 1920]) {
      await page.setViewportSize({ width, height: 900 });
      const { share, below } = await page.locator("td.error-text").first().evaluate((error) => {
        const box = error.getBoundingClientRect();
        const list = error.closest(".scroll-x").getBoundingClientRect();
        const job = error.closest("tr").querySelector(".lead a").getBoundingClientRect();
        return { share: (Math.min(box.right, list.right) - box.left) / list.width, below: box.top >= job.bottom };
      });
      assert.ok(share >= 0.4, `${address} at ${width} px: ${Math.round(share * 100)} %`);
      if (address === "/dead-letters" && width < 1100) assert.ok(below, `below the other cells at ${width} px`);
    }
  }
});

for (const width of [768, 1024, 1280, 1440]) {
  test(`headers stay in sight at ${width} px`, async () => {
    const page = await stack.page({ viewport: { width, height: 700 } });
    for (const [address, heading] of lists().filter(([address]) => address !== "/" && address !== `/queues/${BUSY}`)) {
      await filled(page, address, heading);
      const last = page.locator("main table").last().locator("tr.opens").last();
      await last.scrollIntoViewIfNeeded();
      const seen = await last.evaluate(async (row) => {
        // The page is drawn where it has been scrolled to.
        await new Promise(requestAnimationFrame);
        const head = row.closest("table").querySelector("thead th:not(.below)");
        const { left, top, bottom } = head.getBoundingClientRect();
        const scrolled = row.getBoundingClientRect().top > bottom && row.parentElement.firstElementChild.getBoundingClientRect().top < top;
        return { scrolled, onTop: document.elementFromPoint(left + 20, (top + bottom) / 2)?.closest("th") === head };
      });
      assert.deepEqual(seen, { scrolled: true, onTop: true }, address);
    }
  });
}

test("the header stays in sight below the bar of a selection", async () => {
  const page = await stack.page({ viewport: { width: 1280, height: 700 } });
  await filled(page, "/dead-letters", "Dead letters");
  await page.getByLabel("Select all on this page").check();
  await page.locator("tbody tr.opens").last().scrollIntoViewIfNeeded();
  await until("the header to be below the bar", () => page.evaluate(() => {
    const [bar, head] = [".selection", ".letters th"].map((it) => document.querySelector(it).getBoundingClientRect());
    return head.top >= bar.bottom && head.bottom < innerHeight && bar.top >= 56;
  }));
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
