// Realistic jobs for pictures of the dashboard, made through the API alone. The same seed makes the same jobs; ids and
// times differ.
import { until } from "./harness.mjs";

const HOUR = 3_600;

/** Numbers from 0 to 1 that a seed determines (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let it = Math.imul(state ^ (state >>> 15), state | 1);
    it ^= it + Math.imul(it ^ (it >>> 7), it | 61);
    return ((it ^ (it >>> 14)) >>> 0) / 2 ** 32;
  };
}

const QUEUES = [
  { worker_id: "mail-transactional", tasks: ["send-receipt", "send-password-reset"], hosts: ["mail-7f9c6d5b8-x2x4q", "mail-7f9c6d5b8-9kd2p"], jobs: 60, fails: 0.25 },
  { worker_id: "images", tasks: ["thumbnail", "transcode"], hosts: ["gpu-1"], jobs: 40, fails: 0.08 },
  { worker_id: "webhooks", tasks: ["deliver"], hosts: ["edge-1", "edge-2"], jobs: 50, fails: 0.15 },
  { worker_id: "reports", tasks: ["monthly-report"], hosts: ["build-1"], jobs: 12, fails: 0 },
];

const ERRORS = [
  "SMTP 550 5.1.1 The email account that you tried to reach does not exist",
  "connect ECONNREFUSED 10.1.4.17:5432",
  "HTTP 503 from https://hooks.example.com/orders: upstream connect error or disconnect/reset before headers",
  "Error: cannot read image 4711: unexpected end of file\n    at decode (/app/src/decode.js:41:11)\n    at async run (/app/src/worker.js:88:3)",
  "KeyError: 'customer_id'",
];

/**
 * Fills a server: jobs in every status, retries, progress, a paused queue, one without workers, a job without a
 * handler. Returns the ids that pages are about.
 */
export async function fill(stack, seed = 1) {
  const next = random(seed);
  const pick = (all) => all[Math.floor(next() * all.length)];
  const payload = () =>
    JSON.stringify({ customer: { id: Math.floor(next() * 9_000) + 1_000, plan: pick(["free", "team", "enterprise"]) }, locale: pick(["de-DE", "en-GB", "fr-FR"]), order: `A-${Math.floor(next() * 1e6)}` });
  const job = (worker_id, task, more = {}) =>
    ({ worker_id, task, payload_json: payload(), priority: Math.floor(next() * 10), max_retries: 3, ...more });
  const made = {};

  for (const { worker_id, tasks, hosts, jobs, fails } of QUEUES) {
    await stack.call("SubmitJobs", { jobs: Array.from({ length: jobs }, () => job(worker_id, pick(tasks))) });
    const sessions = [];
    for (const host of hosts) {
      sessions.push(await stack.session(worker_id, { slots: 8, lease: HOUR, host, version: "2.14.0", tasks }));
    }
    for (let left = Math.floor(jobs * 0.8); left > 0; ) {
      const session = pick(sessions);
      const leased = await session.acquire(Math.min(left, 8));
      left -= leased.length;
      for (const { job, lease_id } of leased) {
        const fail = next() < fails;
        const outcome = fail
          ? { fail: { error: pick(ERRORS), permanent: next() < 0.7 } }
          : { complete: { result_json: JSON.stringify({ sent: true, ms: Math.floor(next() * 900) }) } };
        await session.settle(lease_id, outcome);
        made[fail ? "failed" : "done"] ??= job.id;
        if (fail && outcome.fail.permanent) made.letter ??= job.id;
      }
    }
    const running = await sessions[0].acquire(2);
    made.running ??= running[0].job.id;
    made.session ??= sessions[0].session_id;
    await sessions[0].progress(running[0].lease_id, 0.42, "page 21 of 50");
  }

  await stack.call("SubmitJobs", { jobs: Array.from({ length: 3 }, (_, n) => job("reports", "monthly-report", { delay: { seconds: HOUR * (n + 1) } })) });
  made.cancelled = await stack.submit(job("reports", "monthly-report"));
  await stack.call("CancelJob", { job_id: made.cancelled, reason: "a duplicate of the report of March" });
  const etl = await stack.call("SubmitJobs", { jobs: Array.from({ length: 30 }, () => job("etl", "load-orders")) });
  await stack.call("PauseWorkerId", { worker_id: "etl", reason: "the warehouse is moved" });
  made.paused = etl.jobs[0].job_id;
  const lonely = await stack.call("SubmitJobs", { jobs: Array.from({ length: 14 }, () => job("search-index", "reindex")) });
  made.waiting = lonely.jobs[0].job_id;
  made.unhandled = await stack.submit(job("images", "watermark"));
  const strict = await stack.session("images", { slots: 1, lease: HOUR, host: "gpu-2", version: "2.14.0", tasks: ["*"] });
  const [odd] = await strict.acquire(1);
  await strict.settle(odd.lease_id, { release: { no_handler: true } });
  const spec = { kind: "set_priority", priority: 2, filter: { worker_ids: ["etl"] }, reason: "the orders of the weekend go first" };
  const { operation } = await stack.call("StartOperation", { spec, request_id: "etl-first" });
  made.operation = operation.id;
  const { job: letter } = await stack.call("GetJob", { job_id: made.letter });
  made.group = (await stack.call("GetErrorGroup", { id: letter.error_group })).group;
  await until("the operation", async () => (await stack.call("GetOperation", { operation_id: made.operation })).operation.state === "done");
  await until("the counts", async () => (await stack.call("GetMetrics", {})).worker_ids.length >= 6);
  return made;
}
