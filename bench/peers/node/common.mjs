// What the programs of all peers have in common: they do one step on a fresh database and print one line of JSON.
import pg from 'pg'

// The payload's size, as jobqueue's own jobs have it.
const PAYLOAD = 64
// How long a drain or a late job may take.
const PATIENCE_MS = 600_000

export const url = process.argv[2]
export const step = JSON.parse(process.argv[3])

export function payload(n) {
  const rest = JSON.stringify({ n, pad: '' }).length
  return { n, pad: 'x'.repeat(PAYLOAD - rest) }
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

export function say(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`)
}

// Calls `add` with the number of its first job and how many, by so many callers at once, and says the rate.
export async function submit(add) {
  const { callers, batch, warm_up, measure } = step
  let next = 0
  let stored = 0
  let stop = false
  const call = async () => {
    while (!stop) {
      const first = next
      next += batch
      await add(first, batch)
      stored += batch
    }
  }
  const calls = Promise.all(Array.from({ length: callers }, call))
  await Promise.race([sleep(warm_up * 1000), calls])
  const from = stored
  const begun = performance.now()
  await Promise.race([sleep(measure * 1000), calls])
  const found = { jobs: stored - from, seconds: (performance.now() - begun) / 1000 }
  stop = true
  await calls
  say(found)
}

// Adds the jobs, lets the worker that `start` starts work, and says the rate until `left` (SQL) is false. `start` is given
// what to call for each job.
export async function drain(add, start, left) {
  for (let first = 0; first < step.jobs; first += 500) {
    await add(first, Math.min(500, step.jobs - first))
  }
  const database = new pg.Client({ connectionString: url })
  await database.connect()
  let handled = 0
  const begun = performance.now()
  const worker = await start(() => {
    handled += 1
  })
  // The database is asked only once the handlers have seen all: asking costs it something.
  while (handled < step.jobs || (await database.query(left)).rows[0].left) {
    if (performance.now() - begun > PATIENCE_MS) throw new Error(`only ${handled} of ${step.jobs} handled`)
    await sleep(2)
  }
  say({ jobs: step.jobs, seconds: (performance.now() - begun) / 1000 })
  await database.end()
  return worker
}

// Submits at a steady pace to the worker that `start` starts, and says how long it took from the call to the handler.
export async function latency(add, start) {
  const { rate, warm_up, measure } = step
  const count = Math.ceil((warm_up + measure) * rate)
  const first = Math.floor(warm_up * rate)
  const submitted = new Float64Array(count)
  const times = []
  let seen = 0
  const worker = await start((n) => {
    if (n >= first) times.push(performance.now() - submitted[n])
    seen += 1
  })
  const calls = []
  const begun = performance.now()
  for (let n = 0; n < count; n += 1) {
    const wait = begun + (n * 1000) / rate - performance.now()
    if (wait > 0) await sleep(wait)
    submitted[n] = performance.now()
    calls.push(add(n, 1))
  }
  await Promise.all(calls)
  while (seen < count) {
    if (performance.now() - begun > PATIENCE_MS) throw new Error(`only ${seen} of ${count} started`)
    await sleep(5)
  }
  times.sort((a, b) => a - b)
  const at = (share) => times[Math.min(times.length - 1, Math.floor(times.length * share))]
  say({ p50: at(0.5), p95: at(0.95), p99: at(0.99), count: times.length })
  return worker
}
