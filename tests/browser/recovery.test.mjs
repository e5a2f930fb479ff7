// The server stops and starts again: the page says so, keeps its content, and continues by itself.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start({ workers: [] });
});
after(() => stack?.stop());

test("a page outlives its server", async () => {
  const before = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs`, "Jobs");
  await row(page, before).waitFor();
  await page.locator(".live", { hasText: "polling" }).waitFor();

  await stack.stopServer("SIGKILL");
  await page.locator(".live", { hasText: /away since \d\d:\d\d/ }).waitFor();
  await page.getByText("The page shows what was known then").waitFor();
  assert.equal(await row(page, before).count(), 1, "the last data must stay");

  await stack.startServer();
  await page.locator(".live", { hasText: "polling" }).waitFor();
  const later = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  await row(page, later).waitFor();
  assert.equal(await page.getByText("The page shows what was known then").count(), 0);
});

test("a form outlives it too", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  await page.getByLabel("worker_id", { exact: true }).fill("nobody");
  await page.getByLabel("Payload", { exact: true }).fill("[1]");
  await stack.stopServer("SIGKILL");
  await page.getByRole("button", { name: "Submit job" }).click();
  await page.locator("#outcome", { hasText: "Nothing typed is lost" }).waitFor();
  await stack.startServer();
  await page.locator(".live", { hasText: "polling" }).waitFor();
  await page.getByRole("button", { name: "Submit job" }).click();
  await page.locator("#outcome", { hasText: "Submitted job" }).waitFor();
});
