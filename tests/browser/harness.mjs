// Fixture of the browser tests: starts the real server, worker and browser, and stops them again. Waits are for
// conditions, never for a fixed time.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));
export const binary = (name) =>
  process.env[`JOBQUEUE_${name.toUpperCase()}_BIN`] ?? path.join(root, "target/debug", `jobqueue-${name}`);
const LIMIT_MS = 30_000;

const api = grpc.loadPackageDefinition(
  loadSync(["job", "admin", "worker", "operation", "error"].map((name) => `jobqueue/v1/${name}_service.proto`), {
    includeDirs: [path.join(root, "proto")],
    keepCase: true,
    enums: String,
    longs: Number,
    defaults: true,
  }),
).jobqueue.v1;

/** Calls `test` until it returns a truthy value, and returns that. */
export async function until(what, test) {
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    const found = await test();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((next) => setTimeout(next, 50));
  }
}

function start(name, args) {
  const child = spawn(binary(name), args, { stdio: ["ignore", "pipe", "pipe"] });
  child.log = "";
  child.stderr.on("data", (data) => (child.log = (child.log + data).slice(-20_000)));
  return child;
}

async function stop(child, signal = "SIGTERM") {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill(signal);
  await gone;
}

/** A server on a database of its own, its workers, a browser, and a gRPC client. */
export class Stack {
  static async start({ workers = [["worker-1a", "--simulate"]] } = {}) {
    const stack = new Stack();
    stack.folder = await mkdtemp(path.join(tmpdir(), "jobqueue-browser-"));
    stack.workers = [];
    stack.problems = [];
    try {
      await stack.startServer();
      for (const [id, ...args] of workers) stack.startWorker(id, ...args);
      stack.browser = await chromium.launch({
        executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
        args: [
          "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync",
        ],
      });
    } catch (error) {
      await stack.stop();
      throw error;
    }
    return stack;
  }

  /** Starts the server: the first time on free ports, later on the ports that it had. */
  async startServer() {
    const server = start("server", [
      "--database-url", `sqlite://${this.folder}/jobqueue.db`,
      "--grpc-addr", this.grpc ?? "127.0.0.1:0",
      "--http-addr", this.http ?? "127.0.0.1:0",
    ]);
    this.server = server;
    const lines = createInterface({ input: server.stdout });
    const listening = once(lines, "line").then(([line]) => JSON.parse(line).listening);
    const died = once(server, "exit").then(([code]) => {
      throw new Error(`the server ended with ${code}:\n${server.log}`);
    });
    const { grpc_addr, http_addr } = await Promise.race([listening, died]);
    died.catch(() => {});
    this.grpc = grpc_addr;
    this.http = http_addr;
    this.base = `http://${http_addr}`;
    this.clients ??= [api.JobService, api.AdminService, api.WorkerService, api.OperationService, api.ErrorService].map(
      (Service) => new Service(grpc_addr, grpc.credentials.createInsecure()),
    );
  }

  startWorker(id, ...args) {
    const worker = start("worker", ["--worker-id", id, "--server", `http://${this.grpc}`, ...args]);
    this.workers.push(worker);
    return worker;
  }

  /** Kills a worker with SIGKILL, so that it does not end its session, as when a machine loses power. */
  async kill(worker) {
    await stop(worker, "SIGKILL");
  }

  /** A worker session without a worker: it makes only the calls of the test. */
  async session(worker_id, { slots = 1, lease = 30, tasks = [], host = "by-hand", version = "0" } = {}) {
    const { session_id } = await this.call("RegisterSession", {
      worker_id, host, pid: 7, version, tasks, slots, lease_time: { seconds: lease },
    });
    let acquire_no = 0;
    return {
      session_id,
      /** Acquires until it has `count` jobs. */
      acquire: async (count = 1) => {
        const leased = [];
        await until(`${count} jobs for ${worker_id}`, async () => {
          acquire_no += 1;
          const max_jobs = count - leased.length;
          const { jobs } = await this.call("AcquireJobs", { session_id, max_jobs, acquire_no, wait: { seconds: 1 } });
          leased.push(...jobs);
          return leased.length === count;
        });
        return leased;
      },
      /** Settles a lease; returns the google.rpc.Code of the result. */
      settle: async (lease_id, outcome) => {
        const { results } = await this.call("SettleJobs", { session_id, settlements: [{ lease_id, ...outcome }] });
        return results[0].code;
      },
      progress: (lease_id, fraction, message) =>
        this.call("ReportProgress", { session_id, lease_id, fraction, message }),
      end: () => this.call("EndSession", { session_id }),
    };
  }

  async stopServer(signal) {
    await stop(this.server, signal);
  }

  /** Calls a method of the API. */
  call(method, request) {
    return new Promise((answer, fail) => {
      const options = { deadline: Date.now() + LIMIT_MS };
      const client = this.clients.find((client) => client[method]);
      client[method](request, { ...options }, (error, response) => (error ? fail(error) : answer(response)));
    });
  }

  async submit(request) {
    const { job_id } = await this.call("SubmitJob", request);
    return job_id;
  }

  /** Waits until the job has this status. */
  async settled(job_id, status) {
    await until(`${job_id} to be ${status}`, async () => {
      const { job } = await this.call("GetJob", { job_id });
      return job.status === status;
    });
  }

  /** Submits a job that fails, and waits until it is a dead letter; returns its id. */
  async deadLetter(request = {}) {
    const job_id = await this.submit({
      worker_id: "worker-1a", task: "email", payload_json: '{"fail":true}', max_retries: 1, ...request,
    });
    await this.settled(job_id, "failed");
    return job_id;
  }

  /** A page of a fresh browser context. Errors of the page and of its console are collected in `problems`. */
  async page(options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(LIMIT_MS);
    page.on("pageerror", (error) => this.problems.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error") this.problems.push(message.text());
    });
    return page;
  }

  async stop() {
    await this.browser?.close();
    this.clients?.forEach((client) => client.close());
    await Promise.all(this.workers.map((worker) => stop(worker)));
    if (this.server) await stop(this.server);
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Lets a page see changed answers of a method: `edit` is called with each answer, and changes it. */
export async function change(page, method, edit) {
  const { responseDeserialize, responseSerialize } = [api.JobService, api.AdminService, api.OperationService, api.ErrorService]
    .map(({ service }) => service[method])
    .find((it) => it);
  await page.route(`**/${method}`, async (route) => {
    // A page that is left takes its calls with it.
    const response = await route.fetch().catch(() => null);
    if (!response) return route.abort().catch(() => {});
    const body = await response.body();
    // gRPC-web frames are a flag, a length of four bytes, and as many bytes; the message comes first.
    const end = 5 + body.readUInt32BE(1);
    const answer = responseDeserialize(body.subarray(5, end));
    edit(answer);
    const message = responseSerialize(answer);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    const { "content-encoding": _encoding, "content-length": _length, ...headers } = response.headers();
    const changed = Buffer.concat([head, message, body.subarray(end)]);
    await route.fulfill({ status: response.status(), headers, body: changed }).catch(() => {});
  });
}

/** Short form of an id in the tables: `0192f5a6…3f2a91`. */
export const short = (id) => `${id.slice(0, 8)}…${id.slice(30)}`;

/** The table row of a job. */
export const row = (page, id) => page.locator("tbody tr", { has: page.getByRole("link", { name: short(id) }) });

/** Marks the loaded document; `stayed` is false once the page has been loaded again. */
export const mark = (page) => page.evaluate(() => (window.stayed = true));
export const stayed = (page) => page.evaluate(() => window.stayed === true);

/** Opens an address and waits for its heading. */
export async function open(page, url, heading) {
  await page.goto(url);
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
}
