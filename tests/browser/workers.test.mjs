// The page of a worker: its state, the jobs that it holds, and the jobs that it held when it was lost.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

import { Stack, binary, mark, open, row, short, stayed, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
});
after(() => stack?.stop());

test("a killed worker is seen to be lost, with the job that it had started", async () => {
  const worker = stack.startWorker("doomed", "--simulate", "--lease-time", "5s", "--concurrency", "1");
  const job_id = await stack.submit({ worker_id: "doomed", payload_json: '{"sleep_ms":600000}', max_retries: 1 });
  await stack.settled(job_id, "running");
  const page = await stack.page();
  await open(page, `${stack.base}/workers`, "Workers");
  const { sessions } = await stack.call("ListWorkers", { worker_id: "doomed" });
  await page.getByRole("link", { name: short(sessions[0].session_id) }).click();
  await page.getByRole("heading", { level: 1, name: sessions[0].session_id }).waitFor();
  await mark(page);
  await page.locator(".summary .pill", { hasText: "live" }).waitFor();
  await page.getByRole("heading", { name: "Jobs it holds" }).waitFor();
  await row(page, job_id).getByText("running").waitFor();
  for (const value of [`pid ${worker.pid}`, "1 of 1 in use", "5 s"]) {
    await page.locator(".properties dd").getByText(value, { exact: true }).waitFor();
  }

  await stack.kill(worker);
  await page.locator(".summary .pill", { hasText: "lost" }).waitFor();
  await page.getByText("It was silent for longer than its lease of 5 s").waitFor();
  await page.getByRole("heading", { name: "Jobs it held when it was lost" }).waitFor();
  await row(page, job_id).getByText("It was charged an attempt").waitFor();
  await row(page, job_id).getByText("failed").waitFor();
  assert.ok(await stayed(page), "the page must follow by itself");

  await row(page, job_id).getByRole("link").click();
  await page.getByRole("heading", { level: 1, name: job_id }).waitFor();
  await page.getByText("Dead letter: worker lost").waitFor();
});

test("what was merely held is told from what was started, and where each is now", async () => {
  const { jobs } = await stack.call("SubmitJobs", {
    jobs: Array.from({ length: 3 }, () => ({ worker_id: "held", task: "email", payload_json: "{}", max_retries: 1 })),
  });
  const session = await stack.session("held", { slots: 1, lease: 5 });
  const leased = await session.acquire(3);
  const page = await stack.page();
  await open(page, `${stack.base}/workers/${session.session_id}`, session.session_id);
  await page.getByText("3 jobs, 1 of them started").waitFor();
  await page.getByRole("heading", { name: "Jobs it held when it was lost" }).waitFor();
  await row(page, leased[0].job.id).getByText("It was charged an attempt").waitFor();
  await row(page, leased[0].job.id).getByText("failed").waitFor();
  for (const { job } of leased.slice(1)) {
    await row(page, job.id).getByText("It went back uncharged").waitFor();
    await row(page, job.id).getByText("pending").waitFor();
  }
  assert.equal(jobs.length, 3);
  await stack.call("DeleteJob", { job_id: leased[0].job.id });
  await row(page, leased[0].job.id).getByText("deleted").waitFor();
});

test("the command that the page suggests starts a worker, whatever its worker_id, and nothing else", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "jobqueue-command-"));
  const worker_id = "x$(touch pwned)'; touch pwned #";
  const page = await stack.page();
  await open(page, `${stack.base}/workers?worker_id=${encodeURIComponent(worker_id)}`, "Workers");
  const command = await page.locator(".command code").innerText();
  const shell = spawn("sh", ["-c", `exec ${command}`], {
    cwd: folder, stdio: "ignore", env: { ...process.env, PATH: `${path.dirname(binary("worker"))}:${process.env.PATH}` },
  });
  const job_id = await stack.submit({ worker_id, payload_json: "{}" });
  await stack.settled(job_id, "done");
  const gone = once(shell, "exit");
  shell.kill();
  await gone;
  assert.deepEqual(await readdir(folder), []);
  await rm(folder, { recursive: true });
});

test("a session that nobody knows is said to be unknown", async () => {
  const page = await stack.page();
  const id = "00000000-0000-4000-8000-000000000000";
  await open(page, `${stack.base}/workers/${id}`, id);
  await page.getByText("No session has this id").waitFor();
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
