// The minute that is not over is no fall in the chart: lines end before it, and it is marked, in words as well.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, change, open, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
});
after(() => stack?.stop());

/** Points of a path. */
const points = (d) => [...d.matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);

test("a steady throughput is a level line up to the minute that is not over", async () => {
  const page = await stack.page();
  await change(page, "GetThroughput", ({ minutes }) =>
    minutes.forEach((minute, at) => Object.assign(minute, { submitted: 100, done: at === 59 ? 3 : 100 })));
  await open(page, `${stack.base}/`, "Overview");
  const chart = page.getByRole("slider", { name: "Throughput by minute" });
  await until("the series to be there", async () => (await chart.getAttribute("aria-valuemax")) === "59");

  const line = points(await page.locator(".series.done .line").getAttribute("d"));
  const heights = new Set(line.map(([, y]) => y));
  assert.equal(heights.size, 1, `the line is level: ${[...heights]}`);
  assert.equal(line.length, 59);
  const hatched = page.locator(".plot .unfinished");
  const [left, width] = await hatched.evaluate((it) => [Number(it.getAttribute("x")), Number(it.getAttribute("width"))]);
  assert.ok(Math.abs(left - line.at(-1)[0]) < 0.1 && width > 0, "what is not over is hatched from there on");
  assert.equal(await page.locator(".plot .so-far").count(), 4);

  await chart.focus();
  await page.keyboard.press("End");
  assert.match(await chart.getAttribute("aria-valuetext"), /^\d\d:\d\d so far: 100 submitted, 3 done, /);
  await page.locator(".readout", { hasText: "so far" }).waitFor();
  await page.keyboard.press("ArrowLeft");
  assert.match(await chart.getAttribute("aria-valuetext"), /^\d\d:\d\d: 100 submitted, 100 done, /);
  await page.getByRole("button", { name: "Show as table" }).click();
  const rows = page.locator(".chart-card tbody th");
  await rows.first().filter({ hasText: /^\d\d:\d\d so far$/ }).waitFor();
  assert.match(await rows.nth(1).innerText(), /^\d\d:\d\d$/);
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
