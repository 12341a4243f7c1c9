// Drives Debian's chromium over the report: `node check.mjs page FILE` for a published page,
// `node check.mjs live URL RUNS` for a served one that must come to show that many runs.
// Every failed check is a line on stderr; SHOTS=folder keeps screenshots.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [mode, target, wanted] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const DESKTOP = { width: 1280, height: 900 }, PHONE = { width: 390, height: 844 };
const failures = [];
const check = (good, what) => { if (!good) failures.push(what); };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

// A page that reports whatever goes wrong in it.
async function open(url, { colorScheme = "light", viewport = DESKTOP } = {}) {
  const context = await browser.newContext({ colorScheme, viewport });
  const page = await context.newPage();
  page.on("console", (m) => check(m.type() !== "error", `console: ${m.text()}`));
  page.on("pageerror", (e) => check(false, `error in the page: ${e.message}`));
  page.on("dialog", (d) => { check(false, `a script of a name ran: ${d.message()}`); d.dismiss(); });
  const origin = new URL(url).origin;
  page.on("request", (r) => {
    const own = r.url() === url || r.url().startsWith("data:") || (origin !== "null" && r.url().startsWith(origin));
    check(own, `the page asked for ${r.url().slice(0, 100)}`);
  });
  await page.goto(url);
  return page;
}

async function accessible(page, where) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const v of found.violations.filter((v) => ["serious", "critical"].includes(v.impact))) {
    check(false, `${where}: ${v.id} (${v.impact}): ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")}`);
  }
}

async function shot(page, name) {
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}.png`, fullPage: true });
}

const cells = (page, column) => page.$$eval("#runs tbody tr", (rows, i) => rows.filter((r) => !r.hidden).map((r) => r.cells[i].textContent), column);

async function tables(page) {
  const heads = await page.$$eval("#runs thead th", (h) => h.map((c) => c.textContent));
  const ood = heads.findIndex((h) => h.startsWith("OOD"));
  const sorted = async (sign) => {
    await page.click(`#runs thead th:nth-child(${ood + 1}) button`);
    const values = (await cells(page, ood)).map(Number);
    check(values.length > 1 && values.every((v, i) => !i || sign * (v - values[i - 1]) >= 0), `sorting by ${heads[ood]} (${sign}): ${values}`);
    const state = await page.getAttribute(`#runs thead th:nth-child(${ood + 1})`, "aria-sort");
    check(state === (sign > 0 ? "ascending" : "descending"), `aria-sort is ${state}`);
  };
  await sorted(1);
  await sorted(-1);
  const all = (await cells(page, 0)).length;
  await page.fill("#filter", "method=erm");
  const methods = await cells(page, heads.indexOf("method"));
  check(methods.length > 0 && methods.length < all && methods.every((m) => m === "erm"), `filtered by method=erm: ${methods}`);
  check((await page.textContent("#count")) === `${methods.length} of ${all} runs`, "the count of filtered runs");
  await page.fill("#filter", "");
  check((await cells(page, 0)).length === all, "an empty filter shows every run");
}

async function charts(page) {
  const chart = page.locator(".chart").first(), tip = chart.locator(".tip");
  check(await tip.isHidden(), "a tip shows before anything is pointed at");
  await chart.locator(".mean").first().hover();
  check(await tip.isVisible() && /mean .*n = /s.test(await tip.textContent()), "a chart answers to hover");
  await page.mouse.move(2, 2);
  check(await tip.isHidden(), "the tip goes with the pointer");
  const lines = () => chart.locator("svg path").count(), before = await lines();
  const toggle = chart.locator(".bar button[aria-pressed]").first();
  await toggle.click();
  check(await lines() === before - 1 && await toggle.getAttribute("aria-pressed") === "false", "a series can be hidden");
  await toggle.click();
  const ticks = () => chart.locator("svg text").allTextContents(), full = (await ticks()).join();
  await chart.locator(".zoom").click();
  check((await ticks()).join() !== full, "zoom changes the axis");
  await chart.locator(".zoom").click();
  check((await ticks()).join() === full, "zoom can be undone");
  const box = await chart.locator("svg").boundingBox();
  await page.mouse.move(box.x + box.width * 0.985, box.y + box.height * 0.2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.985, box.y + box.height * 0.6, { steps: 4 });
  await page.mouse.up();
  check((await ticks()).join() !== full, "dragging zooms");
  await chart.locator("svg").dblclick({ position: { x: box.width * 0.985, y: 4 } });
  check((await ticks()).join() === full, "clicking twice undoes the zoom");
  // By keyboard: a mean leads to its runs.
  await chart.locator(".mean").first().focus();
  check(await tip.isVisible(), "a chart answers to the keyboard");
  await page.keyboard.press("Enter");
  check((await page.inputValue("#filter")).includes("n_bg="), "a mean leads to its runs");
  await page.fill("#filter", "");
  // A training curve is one setting of a run: a mean has no more runs than there are seeds.
  const curve = page.locator("#charts .chart").last(), seed = (await page.$$eval("#runs thead th", (h) => h.map((c) => c.textContent))).indexOf("seed");
  const seeds = new Set(await cells(page, seed)).size, means = await curve.locator(".mean").all();
  check(means.length > 0, "there are training curves");
  for (const mean of means) {
    const n = /n = (\d+)/.exec((await mean.getAttribute("aria-label")))?.[1];
    check(Number(n) === seeds, `a training curve is a mean over ${n} runs of ${seeds} seeds`);
  }
  check(!(await page.locator("#curve option").allTextContents()).some((t) => ["tau", "λ", "lambda", "seed"].includes(t)), "a fact is offered as a curve");
}

// Tiles answer to the pointer and to the arrow keys; embeddings can be hidden, coloured otherwise and zoomed.
async function maps(page) {
  const box = page.locator("#maps .chart:has(.tile)").first(), tip = box.locator(".tip");
  await box.locator(".tile").first().hover();
  check(/0 taken for 0/.test(await tip.textContent()), `a tile answers to hover: ${await tip.textContent()}`);
  await page.mouse.move(2, 2);
  check(await tip.isHidden(), "the tip of a tile goes with the pointer");
  await page.locator("#metric").focus();
  while (!await box.locator("svg").evaluate((s) => s === document.activeElement)) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement?.id === "filter")) break;
  }
  await page.keyboard.press("ArrowRight");
  check(/0 taken for 1/.test(await tip.textContent()) && await tip.isVisible(), "a tile answers to the arrow keys");
  await page.keyboard.press("Tab");
  check(await tip.isHidden(), "the tip of a tile goes with the focus");
  const plane = page.locator("#maps .chart:has(.point)").first(), count = () => plane.locator(".point").count(), all = await count();
  check(all > 20, `${all} embeddings`);
  const toggle = page.locator("#maps button[aria-label='digit 3']");
  await toggle.click();
  const some = await count();
  check(some < all && await toggle.getAttribute("aria-pressed") === "false", "a digit can be hidden");
  await page.selectOption("#plane-colours", "background");
  check(await count() === all && await page.locator("#maps button[aria-label='background 0']").count() === 1, "by background all show again");
  await plane.locator("svg").scrollIntoViewIfNeeded();
  const b = await plane.locator("svg").boundingBox();
  await page.mouse.move(b.x + 2, b.y + 2);
  await page.mouse.down();
  await page.mouse.move(b.x + b.width * 0.6, b.y + b.width * 0.6, { steps: 4 });
  await page.mouse.up();
  check(await count() < all, "dragging zooms into embeddings");
  await plane.locator("svg").dblclick({ position: { x: 3, y: 3 } });
  check(await count() === all, "zooming into embeddings can be undone");
}

// A number leads to what is behind it.
async function behind(page) {
  await page.locator("#runs tbody tr:not([hidden]) button").first().click();
  const dialog = page.locator("dialog#run");
  check(await dialog.isVisible(), "a run opens");
  const text = await dialog.textContent();
  for (const part of ["Metrics", "Parameters", "took", "key", "artifact", "train[", "dataset["]) check(text.includes(part), `the run's page lacks ${part}`);
  check(await dialog.locator("pre").count() > 0, "the run's page lacks a log");
  await accessible(page, "dialog");
  await shot(page, "run");
  await page.keyboard.press("Escape");
  check(await dialog.isHidden(), "Escape closes the run");
  const made = await page.textContent("#made-by");
  for (const part of ["last run", "dissim run", "machines", "versions of dissim"]) check(made.includes(part), `provenance lacks ${part}`);
  const states = await page.$$eval("[data-stage] .state", (all) => all.map((s) => s.textContent));
  check(states.length > 3 && states.every((s) => /cached|ran|to run/.test(s)), `states of the stages: ${states}`);
}

async function published() {
  const url = pathToFileURL(target).href;
  const page = await open(url);
  await shot(page, "desktop-light");
  await accessible(page, "light");
  await tables(page);
  await charts(page);
  await maps(page);
  await behind(page);
  for (const [name, options] of [["desktop-dark", { colorScheme: "dark" }], ["phone-light", { viewport: PHONE }], ["phone-dark", { colorScheme: "dark", viewport: PHONE }]]) {
    const other = await open(url, options);
    await accessible(other, name);
    const [inner, wide] = await other.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
    check(wide <= inner, `${name}: the page is ${wide} wide on ${inner}`);
    await shot(other, name);
    await other.context().close();
  }
  // Whatever was zoomed or sorted: it prints.
  await page.emulateMedia({ media: "print" });
  await shot(page, "print");
}

async function live() {
  const page = await open(target);
  await page.waitForSelector("#runs tbody tr", { timeout: 120_000 });
  const count = () => page.locator("#runs tbody tr").count(), before = await count();
  check(before > 0 && before < Number(wanted), `${before} runs at first, of ${wanted}`);
  await page.evaluate(() => { window.kept = true; });
  await page.fill("#filter", "seed=0");
  console.log("ready");
  await page.waitForFunction((n) => document.querySelectorAll("#runs tbody tr").length === n, Number(wanted), { timeout: 240_000 });
  check(await page.evaluate(() => window.kept === true), "the page was loaded anew, and loses its place");
  check(await page.inputValue("#filter") === "seed=0", "the filter was lost");
  check(/of \d+ tasks in the cache/.test(await page.textContent("#live")), "the bar of the live page");
  await accessible(page, "live");
  await shot(page, "live");
}

try {
  await (mode === "live" ? live() : published());
} catch (error) {
  failures.push(String(error));
}
await browser.close();
for (const failure of failures) console.error(failure);
process.exit(failures.length ? 1 : 0);
