// Pausing a worker_id in the dashboard holds its jobs back, and resuming lets them run.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [["worker-1a", "--simulate"], ["witness", "--simulate"]] });
});
after(() => stack?.stop());

const done = async (worker_id) => {
  const job_id = await stack.submit({ worker_id, payload_json: "{}" });
  await stack.settled(job_id, "done");
};

test("pausing stops the hand-outs, and resuming starts them", async () => {
  await done("worker-1a");
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  const pause = page.getByRole("button", { name: "Pause worker-1a" });
  await pause.click();
  const dialog = page.getByRole("dialog", { name: "Pause worker-1a?" });
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  await done("worker-1a");

  await pause.click();
  await dialog.getByLabel("Reason").fill("<i>mail</i> is down");
  await dialog.getByRole("button", { name: "Pause worker-1a" }).click();
  await page.locator(".toast", { hasText: "worker-1a is paused" }).waitFor();
  const line = page.locator(".explains .paused");
  await line.getByText(/since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\S* \(.*\): <i>mail<\/i> is down/).waitFor();

  const job_id = await stack.submit({ worker_id: "worker-1a", payload_json: "{}" });
  // Three jobs of another worker_id take longer than handing this one out would.
  for (let n = 0; n < 3; n++) await done("witness");
  const { job } = await stack.call("GetJob", { job_id });
  assert.deepEqual([job.status, job.run_no], ["pending", 0]);

  await page.locator("tbody").getByRole("button", { name: "Resume worker-1a" }).click();
  await page.locator(".toast", { hasText: "worker-1a goes on" }).waitFor();
  await stack.settled(job_id, "done");
  await line.waitFor({ state: "detached" });
  await pause.waitFor();
});

test("a worker's page pauses too, by the keyboard alone, and says so", async () => {
  const page = await stack.page();
  const { sessions } = await stack.call("ListWorkers", { worker_id: "worker-1a" });
  await open(page, `${stack.base}/workers/${sessions[0].session_id}`, sessions[0].session_id);
  await page.getByRole("button", { name: "Pause worker-1a" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.getByLabel("Reason").focus();
  await page.keyboard.type("maintenance");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator(".notice .paused", { hasText: "maintenance" }).waitFor();
  const { worker_ids } = await stack.call("GetMetrics", {});
  assert.equal(worker_ids.find((it) => it.worker_id === "worker-1a").pause_reason, "maintenance");
  await page.getByRole("button", { name: "Resume worker-1a" }).click();
  await page.locator(".notice .paused").waitFor({ state: "detached" });
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));

test("a pause that did not reach the server says so", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  const pause = page.getByRole("button", { name: "Pause witness" });
  await pause.waitFor();
  await stack.stopServer("SIGKILL");
  await pause.click();
  await page.getByRole("dialog").getByRole("button", { name: "Pause witness" }).click();
  await page.locator(".toast.bad", { hasText: "The server does not answer" }).waitFor();
  await stack.startServer();
  await until("the server to be back", () =>
    stack.call("GetMetrics", {}).then((metrics) => metrics.worker_ids.some((it) => it.worker_id === "witness")).catch(() => false));
  const { worker_ids } = await stack.call("GetMetrics", {});
  assert.ok(worker_ids.every((it) => !it.paused_at));
});
