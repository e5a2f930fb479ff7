// A job that a worker gave back for want of a handler is shown with a status of its own: nobody has scheduled it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, mark, open, row, stayed } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
});
after(() => stack?.stop());

test("a job that no handler knows says so in the list and on its page, until a worker has it", async () => {
  const job_id = await stack.submit({ worker_id: "odd", task: "unknown", payload_json: "{}" });
  const scheduled = await stack.submit({ worker_id: "later", task: "known", payload_json: "{}", delay: { seconds: 3_600 } });
  const without = await stack.session("odd");
  const [leased] = await without.acquire();
  assert.equal(await without.settle(leased.lease_id, { release: { no_handler: true } }), 0);
  await without.end();

  const list = await stack.page();
  await open(list, `${stack.base}/jobs`, "Jobs");
  await mark(list);
  await row(list, job_id).locator(".pill", { hasText: "no handler" }).waitFor();
  await row(list, scheduled).locator(".pill", { hasText: "scheduled" }).waitFor();
  const [name, colour] = await row(list, job_id).locator(".pill").evaluate((pill) =>
    [pill.querySelector("use").getAttribute("href"), pill.className]);
  assert.deepEqual([name, colour], ["#i-question", "pill retrying"], "shape and colour tell it as well");
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${job_id}`, job_id);
  await page.locator(".summary .pill", { hasText: "no handler" }).waitFor();

  const knows = await stack.session("odd", { tasks: ["unknown"] });
  const [again] = await knows.acquire();
  assert.equal(again.job.id, job_id);
  await row(list, job_id).locator(".pill.running").waitFor();
  await page.locator(".summary .pill.running").waitFor();
  assert.ok(await stayed(list));
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
