// The overview begins with what needs attention: at most five sentences, worst first, each with what to do.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, change, open, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [["calm", "--simulate"]] });
  const done = await stack.submit({ worker_id: "calm", payload_json: "{}" });
  await stack.settled(done, "done");
});
after(() => stack?.stop());

const sentences = (page) => page.locator(".concern p").allInnerTexts();

test("where nothing is wrong there is one quiet line", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  await page.getByText("Nothing needs attention.").waitFor();
  assert.equal(await page.locator(".concern").count(), 0);
});

test("what is wrong is said while it is wrong, and a press mends it", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  await stack.submit({ worker_id: "lonely", payload_json: "{}" });
  const lonely = page.locator(".concern", { hasText: "lonely" });
  await lonely.getByText(/1 job of .*lonely.* has waited \d+ s, and no worker is connected/).waitFor();
  await lonely.getByRole("link", { name: "How to start one" }).click();
  await page.waitForURL((url) => url.pathname === "/workers" && url.search === "?worker_id=lonely");
  await page.goBack();

  await stack.call("PauseWorkerId", { worker_id: "calm", reason: "maintenance" });
  const waiting = await stack.submit({ worker_id: "calm", payload_json: "{}" });
  const paused = page.locator(".concern", { hasText: "calm" });
  await paused.getByText(/calm has been paused for \d+ (s|ms|min); 1 job waits/).waitFor();
  const resume = paused.getByRole("button", { name: "Resume calm" });
  await resume.focus();
  await page.keyboard.press("Enter");
  await page.locator(".toast", { hasText: "calm goes on" }).waitFor();
  await stack.settled(waiting, "done");
  await paused.waitFor({ state: "detached" });

  stack.startWorker("lonely", "--simulate");
  await lonely.waitFor({ state: "detached" });
  await stack.deadLetter({ worker_id: "calm" });
  const failing = page.locator(".concern.failed", { hasText: "calm: 1 failed in the last 10 min" });
  await failing.getByRole("link", { name: "See the dead letters" }).click();
  await page.waitForURL((url) => url.pathname === "/dead-letters" && url.search === "?worker_id=calm");
});

test("five sentences are enough, the worst come first, and the rest is counted", async () => {
  const page = await stack.page();
  await change(page, "GetMetrics", (answer) => {
    const [first] = answer.worker_ids;
    const of = (worker_id, more) => ({ ...first, worker_id, pending: 0, sessions: 1, failed_lately: 0, oldest_runnable_age: null, paused_at: null, ...more });
    answer.worker_ids = [
      of("slow", { pending: 12, oldest_runnable_age: { seconds: 7_200 } }),
      of("mail", { failed_lately: 340 }),
      of("alone", { pending: 141, sessions: 0, oldest_runnable_age: { seconds: 7_200 } }),
      of("etl", { pending: 3_000, paused_at: { seconds: Math.floor(Date.now() / 1_000) - 29 * 60 - 5 } }),
      ...[1, 2, 3].map((n) => of(`f${n}`, { failed_lately: n })),
    ];
  });
  await open(page, `${stack.base}/`, "Overview");
  await until("the sentences", async () => (await sentences(page)).length === 5);
  assert.deepEqual(await sentences(page), [
    "mail: 340 failed in the last 10 min",
    "f3: 3 failed in the last 10 min",
    "f2: 2 failed in the last 10 min",
    "f1: 1 failed in the last 10 min",
    "141 jobs of alone have waited up to 2 h, and no worker is connected",
  ]);
  await page.getByRole("link", { name: "2 more in the list of queues" }).click();
  await page.getByRole("heading", { level: 1, name: "Queues" }).waitFor();
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
