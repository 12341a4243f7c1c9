// A run and what is behind it --------------------------------------------------------------------
const duration = (s) => s < 90 ? `${s.toFixed(1)} s` : s < 5400 ? `${(s / 60).toFixed(1)} min` : `${(s / 3600).toFixed(1)} h`;
function open(run) {
  const list = (pairs) => el("dl", {}, ...pairs.flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, show(v))]));
  const all = Object.entries(run).filter(([k]) => k !== "task");
  const dialog = $("run"), parts = [el("button", { type: "button", onclick: () => dialog.close(), style: "float:right" }, "Close"), el("h2", { style: "margin-top:0;overflow-wrap:anywhere" }, run.task || "Run")];
  parts.push(el("h3", {}, "Metrics"), list(all.filter(([k]) => DATA.metrics.includes(k))), el("h3", {}, "Parameters"), list(all.filter(([k]) => !DATA.metrics.includes(k))));
  const tasks = PROVENANCE?.tasks || {}, queue = [run.task], seen = new Set();
  while (queue.length) {
    const name = queue.shift(), task = tasks[name];
    if (!task || seen.has(name)) continue;
    seen.add(name); queue.push(...task.inputs);
    parts.push(el("h3", { style: "overflow-wrap:anywhere" }, name), list([["took", duration(task.duration_s) + (task.ran ? "" : ", before the last run: a hit")], ["peak memory", `${(task.peak_memory_bytes / 1e6).toFixed(0)} MB`], ["started", day(task.started)], ["host", task.host], ["key", task.key], ["artifact", task.artifact], ["code", task.code]]));
    if (task.log) parts.push(el("pre", { tabindex: 0, "aria-label": `Log of ${name}` }, task.log));
  }
  if (seen.size === 0) parts.push(el("p", { class: "note" }, "Published without what is known of its tasks: dissim show tells it."));
  dialog.replaceChildren(...parts);
  dialog.showModal();
}
function stages() {
  for (const node of document.querySelectorAll("[data-stage]")) {
    const s = PROVENANCE?.stages?.[node.dataset.stage];
    if (!s) continue;
    node.querySelector(".state").textContent = [s.cached && `${s.cached} cached`, s.ran && `${s.ran} ran`, s.missing && `${s.missing} to run`].filter(Boolean).join(", ");
    node.querySelector("rect").classList.toggle("ran", s.ran > 0 || s.missing > 0);
  }
  if (PROVENANCE) made();
}

// The run behind the page, and the machines and versions behind its numbers.
const day = (s) => new Date(s * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";
function made() {
  const run = PROVENANCE.run, tasks = Object.values(PROVENANCE.tasks), each = (f) => distinct(tasks.map(f)).join(", ");
  const pairs = [];
  if (run) {
    const git = run.git ? run.git.commit + (run.git.dirty ? ", with changes that were not committed" : "") : "not in git";
    pairs.push(["last run", `${run.command}, ${day(run.started)}, on ${run.host}, took ${duration(run.duration_s)}`], ["its tasks", `${run.cached} from the cache, ${run.ran} computed, ${Object.keys(run.failed).length} failed`], ["commit", git], ["pipeline.yaml", run.pipeline], ["backend", run.backend]);
    if (run.git && !run.git.dirty) $("checkout").textContent = `git checkout ${run.git.commit}\n`;
  }
  if (tasks.length) pairs.push(["computed between", `${day(Math.min(...tasks.map((t) => t.started)))} and ${day(Math.max(...tasks.map((t) => t.started + t.duration_s)))}`], ["machines", each((t) => t.host)], ["versions of dissim", each((t) => t.dissim)], ["all tasks", duration(tasks.reduce((a, t) => a + t.duration_s, 0)) + " of computing"], ["most memory", `${(Math.max(...tasks.map((t) => t.peak_memory_bytes)) / 1e6).toFixed(0)} MB in one task`]);
  const missing = Object.entries(PROVENANCE.stages).filter(([, s]) => s.missing);
  if (missing.length) pairs.push(["still to run", missing.map(([name, s]) => `${s.missing} of ${name}`).join(", ")]);
  $("made-by").replaceChildren(el("dl", {}, ...pairs.flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, String(v))])));
}

// `dissim serve`: the same page again, whenever a task has finished.
async function live(version) {
  for (;;) {
    await new Promise((done) => setTimeout(done, 1000));
    let state;
    try { state = await (await fetch("/live.json", { cache: "no-store" })).json(); } catch { $("live").textContent = "The server has stopped."; return; }
    const bar = el("progress", { max: state.tasks, value: state.done, "aria-label": "Tasks done" });
    const far = (r) => r.total ? ` ${r.done}/${r.total} ${r.unit}` : "";
    const running = Object.entries(state.running).slice(0, 6).map(([task, r]) => el("li", {}, task + far(r)));
    const failed = Object.entries(state.failed).slice(0, 3).map(([task, why]) => el("li", { class: "bad" }, `${task} failed: ${why}`));
    const wrong = state.error ? [el("li", { class: "bad" }, state.error.split("\n")[0])] : [];
    $("live").replaceChildren(bar, `${state.done} of ${state.tasks} tasks in the cache${running.length ? "" : "; nothing runs"}`, el("ul", {}, ...wrong, ...failed, ...running));
    if (state.version === version) continue;
    version = state.version;
    const next = new DOMParser().parseFromString(await (await fetch("/", { cache: "no-store" })).text(), "text/html");
    const kept = $("filter").value;
    document.querySelector("header").replaceWith(next.querySelector("header"));
    document.querySelector("main").replaceWith(next.querySelector("main"));
    DATA = read(next, "data"); PROVENANCE = read(next, "provenance");
    start();
    $("filter").value = kept; filter();
  }
}
function start() {
  charts();
  maps();
  document.querySelectorAll("table.sortable:not(#runs)").forEach((table) => { sortable(table); filterable(table); });
  runsTable();
  $("filter").addEventListener("input", filter);
  document.querySelectorAll("[data-runs]").forEach((b) => b.addEventListener("click", () => filterTo(b.dataset.runs)));
  stages();
}
start();
if (PROVENANCE?.live) { $("live").hidden = false; $("live").textContent = "Live"; live(PROVENANCE.live); }
