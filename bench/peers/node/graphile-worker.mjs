// graphile-worker 0.18. It deletes finished jobs and cannot keep them.
//
// Settings: https://worker.graphile.org/docs/performance, the configuration under "Quick stats".
import { makeWorkerUtils, run } from 'graphile-worker'
import { Logger } from 'graphile-worker'

import { drain, latency, payload, step, submit, url } from './common.mjs'

const CONCURRENCY = 24
const POOL = 25
const preset = {
  worker: {
    connectionString: url,
    concurrentJobs: CONCURRENCY,
    maxPoolSize: POOL,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    logger: new Logger(() => () => {}),
  },
}

const utils = await makeWorkerUtils({ preset })
await utils.migrate()

async function add(first, count) {
  if (count === 1) {
    await utils.addJob('no_op', payload(first))
  } else {
    const jobs = Array.from({ length: count }, (_, n) => ({ identifier: 'no_op', payload: payload(first + n) }))
    await utils.addJobs(jobs)
  }
}

const start = (handle) => run({ preset, taskList: { no_op: async (job) => handle(job.n) }, noHandleSignals: true })

let worker
if (step.step === 'submit') {
  await submit(add)
} else if (step.step === 'drain') {
  worker = await drain(add, start, 'SELECT EXISTS (SELECT FROM graphile_worker._private_jobs) AS left')
} else {
  worker = await latency(add, start)
}
await worker?.stop()
await utils.release()
