// Pictures of every page in its states, themes and widths, with an index: `cargo xtask screenshots`. A person looks at
// them; nothing is compared.
import { mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";

import { Stack, open, until } from "./harness.mjs";
import { fill } from "./seed.mjs";

const { values } = parseArgs({
  options: {
    out: { type: "string", default: path.resolve(import.meta.dirname ?? ".", "../../target/screenshots") },
    seed: { type: "string", default: "1" },
    // A part of the names of the pictures to make, such as `queue` or `390-dark`.
    only: { type: "string", default: "" },
  },
});
const WIDTHS = [390, 768, 1280, 1920];
const THEMES = ["light", "dark"];

/** Name, address and heading of each page, and an element that exists once it is filled. */
const pages = (made) => [
  ["overview", "/", "Overview", ".concern"],
  ["jobs", "/jobs", "Jobs", "td.lead a"],
  ["dead-letters", "/dead-letters", "Dead letters", "td.lead a"],
  ["errors", "/errors", "Errors", ".error-spark"],
  ["operations", "/operations", "Operations", "tbody a"],
  ["operation", `/operations/${made.operation}`, made.operation, "progress"],
  ["queues", "/queues", "Queues", ".spark"],
  ["queue", "/queues/mail-transactional", "mail-transactional", "tr.group"],
  ["queue-paused", "/queues/etl", "etl", ".notice .paused"],
  ["queue-alone", "/queues/search-index", "search-index", ".concern"],
  ["workers", "/workers", "Workers", "td.lead a"],
  ["worker", `/workers/${made.session}`, made.session, "td.lead a"],
  ["submit", "/submit", "Submit", "textarea"],
  ["job-failed", `/jobs/${made.letter}`, made.letter, ".timeline .event"],
  ["job-running", `/jobs/${made.running}`, made.running, ".progress"],
  ["job-waiting", `/jobs/${made.waiting}`, made.waiting, ".why-sentence"],
  ["not-found", "/nothing", "No such page", ".empty"],
];

/** Pages that show something else while there are no jobs. */
const empty = [
  ["overview", "/", "Overview", ".calm"],
  ["jobs", "/jobs", "Jobs", ".empty"],
  ["dead-letters", "/dead-letters", "Dead letters", ".empty"],
  ["queues", "/queues", "Queues", ".empty"],
  ["queue", "/queues/nobody", "nobody", ".empty"],
  ["workers", "/workers", "Workers", ".empty"],
];

const shots = [];

/** Makes the pictures of some pages in one state; `show` brings a page to the state. */
async function make(stack, state, all, show, options = {}) {
  for (const width of WIDTHS) {
    for (const theme of THEMES) {
      const wanted = all.filter(([name]) => `${name}-${state}-${width}-${theme}`.includes(values.only));
      if (!wanted.length) continue;
      const page = await stack.page({ viewport: { width, height: 900 }, colorScheme: theme, reducedMotion: "reduce" });
      await options.prepare?.(page);
      for (const [name, address, heading, filled] of wanted) {
        await show(page, address, heading, filled);
        const file = `${name}-${state}-${width}-${theme}.png`;
        await page.screenshot({ path: path.join(values.out, file), fullPage: true });
        shots.push({ name, state, width, theme, file });
        console.log(file);
      }
      await page.context().close();
    }
  }
}

/** Leads a page of the app to an address without the server. */
const follow = (page, address) =>
  page.evaluate((address) => {
    const link = document.body.appendChild(document.createElement("a"));
    link.href = address;
    link.click();
    link.remove();
  }, address);

function index() {
  const text = (it) => String(it).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const names = [...new Set(shots.map(({ name, state }) => `${name}: ${state}`))];
  const part = (title) => {
    const mine = shots.filter(({ name, state }) => `${name}: ${state}` === title);
    const figures = mine.map(({ file, width, theme }) =>
      `<figure><a href="${file}"><img loading="lazy" src="${file}" alt="${text(title)}, ${width} px, ${theme}"></a><figcaption>${width} px, ${theme}</figcaption></figure>`);
    return `<h2>${text(title)}</h2><div>${figures.join("")}</div>`;
  };
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Pages of jobqueue</title>
<style>body{font:14px system-ui;margin:24px}div{display:flex;flex-wrap:wrap;gap:16px}figure{margin:0}img{height:320px;border:1px solid #ccc}</style>
<h1>Pages of jobqueue</h1>${names.map(part).join("\n")}</html>\n`;
}

await rm(values.out, { recursive: true, force: true });
await mkdir(values.out, { recursive: true });

const bare = await Stack.start({ workers: [] });
try {
  await make(bare, "empty", empty, async (page, address, heading, filled) => {
    await open(page, bare.base + address, heading);
    await page.locator(filled).first().waitFor();
  });
} finally {
  await bare.stop();
}

const stack = await Stack.start({ workers: [] });
try {
  const made = await fill(stack, Number(values.seed));
  // Jobs that no worker takes are a concern from this age on.
  await until("the first concerns", async () => {
    const { worker_ids } = await stack.call("GetMetrics", {});
    return worker_ids.find((it) => it.worker_id === "search-index").oldest_runnable_age?.seconds >= 10;
  });
  // Its heading is known only once it is loaded.
  const group = ["error-group", `/errors/${made.group.id}`, made.group.title, ".plot"];
  await make(stack, "loaded", [...pages(made), group], async (page, address, heading, filled) => {
    await open(page, stack.base + address, heading);
    await page.locator(filled).first().waitFor();
    await until("nothing to load", async () => (await page.locator("main .bone").count()) === 0);
  });
  const lists = pages(made).filter(([name]) => !["submit", "not-found"].includes(name));
  await make(
    stack,
    "loading",
    lists,
    (page, address, heading) => open(page, stack.base + address, heading),
    { prepare: (page) => page.route("**/jobqueue.v1.*/*", () => {}) },
  );
  await make(
    stack,
    "error",
    lists,
    async (page, address, heading) => {
      await follow(page, address);
      await page.getByRole("heading", { level: 1, name: heading }).waitFor();
      await page.locator(".banner").first().waitFor();
      await until("nothing to load", async () => (await page.locator("main .skeleton").count()) === 0);
    },
    {
      prepare: async (page) => {
        if (stack.server.exitCode !== null || stack.server.signalCode !== null) await stack.startServer();
        await open(page, `${stack.base}/submit`, "Submit");
        await stack.stopServer("SIGKILL");
      },
    },
  );
} finally {
  await stack.stop();
}
await writeFile(path.join(values.out, "index.html"), index());
console.log(`${shots.length} pictures: ${path.join(values.out, "index.html")}`);
