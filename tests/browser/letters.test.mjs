// Dead letters are listed, and retried one by one and many at once; jobs are cancelled and deleted, each after one
// confirmation.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Stack, open, row, short, until } from "./harness.mjs";

let stack;
before(async () => {
  stack = await Stack.start();
});
after(() => stack?.stop());

test("a job that fails lands in the dead letters and is retried from there", async () => {
  const page = await stack.page();
  await open(page, `${stack.base}/submit`, "Submit");
  await page.getByLabel("worker_id", { exact: true }).fill("worker-1a");
  await page.getByLabel("Payload", { exact: true }).fill('{"task": "email", "fail": true}');
  await page.getByLabel("max_retries", { exact: true }).fill("1");
  await page.getByRole("button", { name: "Submit job" }).click();
  await page.locator("#outcome .pill.failed").waitFor();
  const href = await page.locator("#outcome").getByRole("link").getAttribute("href");
  const id = href.split("/").pop();

  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: /^Errors/ }).click();
  await page.getByRole("link", { name: "All dead letters" }).click();
  await until("the heading to have the focus", () =>
    page.evaluate(() => document.activeElement.textContent === "Dead letters"));
  const letter = row(page, id);
  await letter.getByText("simulated failure").waitFor();
  await letter.getByText("1 of 1").waitFor();
  await letter.getByRole("button", { name: `Retry job ${short(id)}` }).click();
  await page.locator(".toast", { hasText: "1 retried" }).waitFor();

  await open(page, `${stack.base}${href}`, id);
  // The second budget is used up like the first, and the timeline shows both failures.
  await page.locator(".timeline .pill", { hasText: "retried by a person" }).waitFor();
  await until("both failures to be told", async () =>
    (await page.locator(".timeline .pill", { hasText: /^failed$/ }).count()) === 2);
});

test("many are retried after one question that names their number", async () => {
  const ids = [];
  for (let n = 0; n < 3; n++) ids.push(await stack.deadLetter({ task: "bulk" }));
  const page = await stack.page();
  await open(page, `${stack.base}/dead-letters?task=bulk`, "Dead letters");
  for (const id of ids) await row(page, id).waitFor();
  await page.getByLabel("Select all on this page").check();
  const retry = page.getByRole("button", { name: "Retry 3", exact: true });
  await retry.click();
  const dialog = page.getByRole("dialog", { name: "Retry 3 dead letters?" });
  await dialog.waitFor();
  for (let presses = 0; presses < 4; presses++) {
    await page.keyboard.press("Tab");
    const outside = await page.evaluate(() => {
      const at = document.activeElement;
      return at !== document.body && !at.closest("dialog");
    });
    assert.equal(outside, false, "the focus left the dialog");
  }
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  await until("the focus to be back", () => page.evaluate(() => document.activeElement.textContent.trim() === "Retry 3"));

  await retry.click();
  await dialog.waitFor();
  // One of the three is deleted by another client while the dialog is open.
  await stack.call("DeleteJob", { job_id: ids[0] });
  await dialog.getByRole("button", { name: "Retry 3 dead letters" }).click();
  await page.locator(".toast", { hasText: "2 retried, 1 no dead letter any more" }).waitFor();
});

test("a job is cancelled with a reason, retried, and deleted", async () => {
  const id = await stack.submit({ worker_id: "nobody", payload_json: "{}" });
  const page = await stack.page();
  await open(page, `${stack.base}/jobs/${id}`, id);
  await page.getByRole("button", { name: "Cancel job" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Reason").fill("wrong recipient");
  await dialog.getByRole("button", { name: "Cancel job" }).click();
  await page.locator(".summary .pill.cancelled").waitFor();
  await page.locator(".notice", { hasText: "wrong recipient" }).waitFor();
  await page.getByRole("button", { name: "Retry job" }).click();
  await page.locator(".summary .pill.pending").waitFor();
  await stack.call("CancelJob", { job_id: id });
  await page.getByRole("button", { name: "Delete job" }).click();
  await dialog.getByRole("button", { name: "Delete job" }).click();
  await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();
  await page.goto(`${stack.base}/jobs/${id}`);
  await page.getByText("No job has this id").waitFor();
});
