// Example that submits a job and runs it, with nothing but the .proto files.
//
//     npm ci
//     npm start
//
// The server is http://127.0.0.1:50051 or the one in JOBQUEUE_SERVER. Prints the finished job as JSON.

import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const WORKER_ID = "example-node";
const PROTO = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "proto");
// A call without a deadline waits for ever when the other side hangs.
const CALL_SECONDS = 10;
const POLL_SECONDS = 20;

const files = ["jobqueue/v1/job_service.proto", "jobqueue/v1/worker_service.proto"];
// Names, enums and 64-bit numbers as the .proto files write them.
const options = { keepCase: true, enums: String, longs: String, defaults: true, includeDirs: [PROTO] };
const { v1 } = grpc.loadPackageDefinition(protoLoader.loadSync(files, options)).jobqueue;

const server = (process.env.JOBQUEUE_SERVER ?? "http://127.0.0.1:50051").replace(/^http:\/\//, "");
const settings = { "grpc.enable_http_proxy": 0 };
const jobs = new v1.JobService(server, grpc.credentials.createInsecure(), settings);
const workers = new v1.WorkerService(server, grpc.credentials.createInsecure(), settings);

function call(api, method, request, seconds = CALL_SECONDS) {
  const deadline = new Date(Date.now() + seconds * 1000);
  return new Promise((resolve, reject) => {
    api[method](request, { deadline }, (error, reply) => (error ? reject(error) : resolve(reply)));
  });
}

// Sends heartbeats, which keep the session alive, until the timer is cleared.
function startHeartbeats({ session_id, heartbeat_interval }) {
  const seconds = Number(heartbeat_interval.seconds) + heartbeat_interval.nanos / 1e9;
  return setInterval(async () => {
    try {
      const { stop } = await call(workers, "Heartbeat", { session_id }, seconds);
      for (const { job_id } of stop) console.error(`job ${job_id} should stop`);
    } catch (error) {
      // UNAVAILABLE is temporary; FAILED_PRECONDITION would mean that the session has ended.
      console.error(`heartbeat: ${error.message}`);
    }
  }, seconds * 1000);
}

// Acquires the next job. The call is repeated under the same acquire_no until there is an answer, so that jobs of a lost
// answer are given again.
async function acquire(session_id, acquire_no) {
  const request = { session_id, max_jobs: 1, acquire_no, wait: { seconds: POLL_SECONDS } };
  for (;;) {
    try {
      return (await call(workers, "AcquireJobs", request, POLL_SECONDS + CALL_SECONDS)).jobs;
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE) throw error;
      await sleep(1000);
    }
  }
}

// Handler of the task: greets the person that the payload names.
function run(job) {
  const { name } = JSON.parse(job.payload_json);
  return JSON.stringify({ greeting: `Hello, ${name}!` });
}

function settlement({ lease_id, job }) {
  try {
    return { lease_id, complete: { result_json: run(job) } };
  } catch (error) {
    // An error in a job fails the job, and not the worker.
    return { lease_id, fail: { error: String(error) } };
  }
}

async function workUntilDone(job_id) {
  const session = await call(workers, "RegisterSession", {
    worker_id: WORKER_ID,
    host: hostname(),
    pid: process.pid,
    version: "node example",
    tasks: ["greet"],
    slots: 1,
    lease_time: { seconds: 30 },
  });
  const { session_id } = session;
  const heartbeats = startHeartbeats(session);
  try {
    for (let acquire_no = 1, mine = false; !mine; acquire_no++) {
      for (const leased of await acquire(session_id, acquire_no)) {
        const reply = await call(workers, "SettleJobs", { session_id, settlements: [settlement(leased)] });
        console.error(`job ${leased.job.id}: ${reply.results[0].message || "accepted"}`);
        mine ||= leased.job.id === job_id;
      }
    }
  } finally {
    clearInterval(heartbeats);
    await call(workers, "EndSession", { session_id });
  }
}

const { job_id } = await call(jobs, "SubmitJob", {
  worker_id: WORKER_ID,
  task: "greet",
  payload_json: '{"name": "Ada"}',
});
const { sentence } = await call(jobs, "ExplainJob", { job_id });
console.error(`why it does not run yet: ${sentence}`);
await workUntilDone(job_id);
const { job } = await call(jobs, "GetJob", { job_id });
console.log(JSON.stringify(job, null, 2));
jobs.close();
workers.close();
