// The search field finds what lists show: short ids, ids of sessions, and parts of an id; where it finds nothing, it says
// where it has looked.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, short } from "./harness.mjs";

let stack;
let job_id;
let session;
before(async () => {
  stack = await Stack.start({ workers: [] });
  job_id = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  session = await stack.session("somebody");
});
after(() => stack?.stop());

/** Searches for a text from the overview of a tab that has shown no list. */
async function search(text, page) {
  if (!page) {
    page = await stack.page();
    await open(page, `${stack.base}/submit`, "Submit");
  }
  const field = page.getByRole("searchbox");
  await field.fill(text);
  await field.press("Enter");
  return page;
}

const arrives = (page, id) => page.getByRole("heading", { level: 1, name: id }).waitFor();

test("a short id finds its job, shown before or not, by both ends or by one", async () => {
  for (const text of [short(job_id), short(job_id).replace("…", "..."), job_id.slice(-6), `job ${short(job_id)} failed`]) {
    await arrives(await search(text), job_id);
  }
  // A job that is in no list any more is known from the list that showed it.
  const page = await stack.page();
  await open(page, `${stack.base}/jobs`, "Jobs");
  await row(page, job_id).waitFor();
  await page.route("**/ListJobs", (route) => route.abort());
  await search(short(job_id), page);
  await arrives(page, job_id);
});

test("an id of a session leads to its page, short or whole", async () => {
  for (const text of [session.session_id, short(session.session_id)]) {
    const page = await search(text);
    await arrives(page, session.session_id);
    assert.equal(new URL(page.url()).pathname, `/workers/${session.session_id}`);
  }
});

test("an id that nothing has, or that several have, is told with what was searched", async () => {
  const toast = (page) => page.locator(".toast.bad p");
  const nothing = await search("00000000…abcdef");
  await toast(nothing).filter({ hasText: "No id fits 00000000…abcdef among" }).waitFor();
  await toast(nothing).filter({ hasText: "the newest 500 jobs and dead letters, and the sessions. Paste the whole id" }).waitFor();
  assert.equal(await nothing.getByRole("searchbox").inputValue(), "00000000…abcdef", "nothing typed is lost");
  const whole = "00000000-0000-4000-8000-000000000000";
  await toast(await search(whole)).filter({ hasText: `No job and no session has the id ${whole}` }).waitFor();

  // Jobs of one minute begin alike.
  const other = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  const begin = job_id.slice(0, 6);
  const several = await search(begin);
  await toast(several).filter({ hasText: `${begin} fits 2 ids: job ${job_id}, job ${other}. Paste the whole id.` }).waitFor();

  await toast(await search("no id")).filter({ hasText: "There is no job id or session id in that" }).waitFor();
});
