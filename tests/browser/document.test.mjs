// The dashboard as a document: its status for addresses without a page.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open } from "./harness.mjs";

let stack;
let letter;
let session;
before(async () => {
  stack = await Stack.start({ workers: [] });
  letter = await stack.submit({ worker_id: "mail", task: "email", payload_json: "{}" });
  session = await stack.session("mail", { lease: 600 });
  const [{ lease_id }] = await session.acquire(1);
  await session.settle(lease_id, { fail: { error: "SMTP 550", permanent: true } });
});
after(() => stack?.stop());

/** Status of the answer to a browser that goes to a path. */
async function status(path) {
  const answer = await fetch(stack.base + path, { headers: { accept: "text/html,*/*;q=0.8" } });
  await answer.text();
  return answer.status;
}

test("an address without a page answers 404, and the page says so", async () => {
  const context = await stack.browser.newContext();
  const page = await context.newPage();
  for (const path of ["/nothing", "/jobs/x/y", "/dead-letters/x"]) {
    const answer = await page.goto(stack.base + path);
    assert.equal(answer.status(), 404, path);
    await page.getByRole("heading", { level: 1, name: "No such page" }).waitFor();
  }
  await context.close();
});

test("every page of the dashboard answers 200", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/`, "Overview");
  const links = await page.getByRole("navigation", { name: "Pages" }).getByRole("link").evaluateAll((links) =>
    links.map((link) => link.getAttribute("href")));
  assert.ok(links.length >= 5);
  for (const path of [...links, "/jobs/", `/jobs/${letter}`, `/workers/${session.session_id}`, "/jobs?status=failed"]) {
    assert.equal(await status(path), 200, path);
    await page.goto(stack.base + path);
    await page.locator("h1").waitFor();
    assert.notEqual(await page.locator("h1").innerText(), "No such page", path);
  }
});

test("nothing has complained", () => assert.deepEqual(stack.problems, []));
