// pg-boss 12.38. It keeps finished jobs, here for its default of seven days. A handler is called with a batch.
//
// Settings: the documentation of its options, https://pgboss.io/api/workers and https://pgboss.io/api/constructor:
// `batchSize` with `burstWhenBatchFull` (fetch on without delay while there is more), `localConcurrency`, and
// LISTEN/NOTIFY (`useListenNotify`, `notify`) for latency. Maintenance stays on.
import { PgBoss } from 'pg-boss'

import { drain, latency, payload, step, submit, url } from './common.mjs'

const QUEUE = 'bench'
const BATCH = 500
const CONCURRENCY = 4
const POOL = 20

const boss = new PgBoss({ connectionString: url, max: POOL, useListenNotify: true })
boss.on('error', (error) => {
  console.error(error)
})
await boss.start()
await boss.createQueue(QUEUE, { notify: true })

async function add(first, count) {
  if (count === 1) {
    await boss.send(QUEUE, payload(first))
  } else {
    await boss.insert(QUEUE, Array.from({ length: count }, (_, n) => ({ data: payload(first + n) })))
  }
}

async function start(handle) {
  const options = {
    batchSize: BATCH,
    burstWhenBatchFull: true,
    localConcurrency: step.step === 'drain' ? CONCURRENCY : 1,
    pollingIntervalSeconds: 0.5,
  }
  await boss.work(QUEUE, options, async (jobs) => {
    for (const job of jobs) handle(job.data.n)
  })
}

if (step.step === 'submit') {
  await submit(add)
} else if (step.step === 'drain') {
  await drain(add, start, "SELECT EXISTS (SELECT FROM pgboss.job WHERE name = 'bench' AND state < 'completed') AS left")
} else {
  await latency(add, start)
}
await boss.stop({ graceful: false })
process.exit(0)
