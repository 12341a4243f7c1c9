"use strict";
// The page's charts and tables, from the two blocks of JSON in it. No library, no network.
const $ = (id) => document.getElementById(id);
const read = (root, id) => JSON.parse(root.getElementById(id).textContent);
let DATA = read(document, "data"), PROVENANCE = read(document, "provenance");
const NAMES = { id_acc: "ID accuracy", ood_acc: "OOD accuracy", conflict_acc: "accuracy, another label's background", black_acc: "accuracy on black", background_only_acc: "accuracy on backgrounds alone", n_bg: "N", lambda: "λ" };
const SHORT = { conflict_acc: "conflict %", black_acc: "black %", background_only_acc: "no digit %", same_group_similarity: "similarity" };
const nice = (name) => NAMES[name] || name.replaceAll("_", " ");
const share = (metric) => metric.includes("acc") || metric === "dead" || metric === "active";
const el = (tag, attributes = {}, ...children) => {
  const svg = ["svg", "g", "path", "circle", "line", "rect", "text", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) k.startsWith("on") ? node.addEventListener(k.slice(2), v) : node.setAttribute(k, v);
  node.append(...children);
  return node;
};
const objects = (table) => table.rows.map((r) => Object.fromEntries(table.columns.map((c, i) => [c, r[i]])));
const distinct = (values) => [...new Set(values)].sort((a, b) => (a === null) - (b === null) || (a < b ? -1 : a > b ? 1 : 0));
const show = (v) => v === null || v === undefined ? "-" : typeof v === "number" && !Number.isInteger(v) ? String(+v.toPrecision(6)) : String(v);
const summary = (values) => {
  const n = values.length, mean = values.reduce((a, b) => a + b, 0) / n;
  const sd = Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / (n - 1));
  const half = n > 1 ? DATA.t[Math.min(n - 2, DATA.t.length - 1)] * sd / Math.sqrt(n) : null;
  return { n, mean, half };
};

// Charts -----------------------------------------------------------------------------------------
const W = 980, LEFT = 58, RIGHT = 18, TOP = 14;
function chart(host, spec) {
  const state = { hidden: new Set(), zoom: null, percent: spec.percent };
  const legend = el("div", { class: "bar" }), plot = el("div", { class: "plot" }), tip = el("div", { class: "tip", hidden: "" });
  const box = el("div", { class: "chart", role: "group", "aria-label": spec.title }, el("h3", {}, spec.title), legend, plot, tip);
  host.append(box);
  for (const s of spec.series) {
    const swatch = el("span", { class: "swatch" + (s.dash ? " dash" : ""), style: `color:${s.colour}` });
    legend.append(el("button", { type: "button", "aria-pressed": "true", onclick: (e) => {
      state.hidden.has(s) ? state.hidden.delete(s) : state.hidden.add(s);
      e.currentTarget.setAttribute("aria-pressed", String(!state.hidden.has(s)));
      draw();
    } }, swatch, s.name));
  }
  const zoom = el("button", { type: "button", class: "zoom", onclick: () => { state.zoom = state.zoom ? null : extent(); draw(); } }, "Zoom to data");
  legend.append(zoom);
  const visible = () => spec.series.filter((s) => !state.hidden.has(s));
  const extent = () => {
    const all = visible().flatMap((s) => s.points.flatMap((p) => p.values.map((v) => v.value)));
    if (!all.length) return null;
    const lo = Math.min(...all), hi = Math.max(...all), pad = (hi - lo || 1) * 0.06;
    return [lo - pad, hi + pad];
  };
  function draw() {
    const deep = spec.tilted ? 110 : 0;
    const H = (spec.lower ? 330 : 380) + deep, whole = spec.lower ? 470 : H, bottom = spec.lower ? H - 16 : H - 46 - deep;
    const [y0, y1] = state.zoom || (spec.percent ? [0, 100] : extent() || [0, 1]);
    const last = spec.ticks.length - 1;
    const x = (i) => LEFT + (W - LEFT - RIGHT) * (i + 0.4) / (last + 0.8);
    const y = (v) => bottom - (bottom - TOP) * (v - y0) / (y1 - y0);
    const svg = el("svg", { viewBox: `0 0 ${W} ${whole}`, role: "group", "aria-label": spec.title });
    const clip = (v) => Math.max(TOP, Math.min(bottom, y(v)));
    for (const v of ticks(y0, y1)) svg.append(el("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: y(v), y2: y(v) }), el("text", { x: LEFT - 8, y: y(v) + 4, "text-anchor": "end" }, show(+v.toPrecision(8))));
    svg.append(el("text", { x: 14, y: (TOP + bottom) / 2, transform: `rotate(-90 14 ${(TOP + bottom) / 2})`, "text-anchor": "middle" }, spec.yTitle));
    const every = spec.tilted ? 1 : Math.ceil(spec.ticks.length / 14);
    spec.ticks.forEach((t, i) => { if (i % every === 0) svg.append(spec.tilted ? el("text", { x: x(i), y: bottom + 18, transform: `rotate(-38 ${x(i)} ${bottom + 18})`, "text-anchor": "end" }, t) : el("text", { x: x(i), y: whole - 26, "text-anchor": "middle" }, t)); });
    svg.append(el("text", { x: (LEFT + W - RIGHT) / 2, y: whole - 6, "text-anchor": "middle" }, spec.xTitle));
    visible().forEach((s, k, all) => {
      const off = spec.tilted ? 0 : (k - (all.length - 1) / 2) * Math.min(7, 60 / all.length), inside = (v) => v >= y0 && v <= y1;
      const points = s.points.map((p) => ({ ...p, ...summary(p.values.map((v) => v.value)) }));
      if (s.line !== false) svg.append(el("path", { d: points.map((p, i) => `${i ? "L" : "M"}${x(p.at) + off} ${clip(p.mean)}`).join(""), fill: "none", stroke: s.colour, "stroke-width": 2, "stroke-dasharray": s.dash ? "6 5" : "none" }));
      for (const p of points) {
        const px = x(p.at) + off;
        if (spec.dots !== false) for (const v of p.values) if (inside(v.value)) svg.append(el("circle", { cx: px, cy: y(v.value), r: 3, fill: s.colour, opacity: 0.3 }));
        if (p.half !== null) svg.append(el("line", { x1: px, x2: px, y1: clip(p.mean - p.half), y2: clip(p.mean + p.half), stroke: s.colour, "stroke-width": 1.5 }));
        if (!inside(p.mean)) continue;
        const text = `${s.name}\n${spec.xTitle} ${spec.ticks[p.at]}\nmean ${p.mean.toFixed(2)}${p.half === null ? "" : ` ± ${p.half.toFixed(2)}`}, n = ${p.n}\n${p.values.map((v) => v.value.toFixed(1)).slice(0, 20).join("  ")}`;
        const on = (e) => point(e.currentTarget, text), off_ = () => { tip.hidden = true; }, go = () => filterTo(p.filter);
        svg.append(el("circle", { class: "mean", cx: px, cy: y(p.mean), r: spec.dots === false ? 3.5 : 5.5, fill: s.colour, tabindex: 0, role: "button", "aria-label": text.replaceAll("\n", ", "), onmouseenter: on, onfocus: on, onmouseleave: off_, onblur: off_, onclick: go, onkeydown: (e) => { if (e.key === "Enter") go(); } }));
      }
    });
    if (spec.lower) {
      const base = whole - 46, roof = H + 14, ly = (v) => base - (base - roof) * v / 100;
      for (const v of [0, 50, 100]) svg.append(el("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: ly(v), y2: ly(v) }), el("text", { x: LEFT - 8, y: ly(v) + 4, "text-anchor": "end" }, v));
      svg.append(el("text", { x: 14, y: (roof + base) / 2, transform: `rotate(-90 14 ${(roof + base) / 2})`, "text-anchor": "middle" }, "dead, %"));
      spec.lower.forEach((d, i) => {
        const text = `${d.dead} of ${d.n} runs are dead at ${spec.ticks[i]}\n95 % Wilson interval ${d.low.toFixed(0)} to ${d.high.toFixed(0)} %`;
        const on = (e) => point(e.currentTarget, text), hide = () => { tip.hidden = true; };
        svg.append(el("rect", { x: x(i) - 16, width: 32, y: ly(100 * d.dead / d.n), height: base - ly(100 * d.dead / d.n), fill: "var(--s1)", opacity: 0.75 }), el("line", { x1: x(i), x2: x(i), y1: ly(d.low), y2: ly(d.high), stroke: "currentColor", "stroke-width": 1.3 }),
          el("rect", { x: x(i) - 22, width: 44, y: roof, height: base - roof, fill: "transparent", tabindex: 0, role: "img", "aria-label": text.replaceAll("\n", ", "), onmouseenter: on, onfocus: on, onmouseleave: hide, onblur: hide }));
      });
    }
    // Drag up or down to zoom.
    const toValue = (e) => { const r = svg.getBoundingClientRect(), v = (e.clientY - r.top) * whole / r.height; return [v, y0 + (bottom - v) / (bottom - TOP) * (y1 - y0)]; };
    svg.addEventListener("pointerdown", (e) => {
      if (e.target.classList.contains("mean") || e.pointerType === "touch") return;
      const [from, a] = toValue(e), brush = el("rect", { class: "brush", x: LEFT, width: W - LEFT - RIGHT, y: from, height: 0 });
      svg.append(brush);
      const move = (m) => { const [to] = toValue(m); brush.setAttribute("y", Math.min(from, to)); brush.setAttribute("height", Math.abs(to - from)); };
      const up = (m) => {
        removeEventListener("pointermove", move); removeEventListener("pointerup", up);
        const [to, b] = toValue(m);
        if (Math.abs(to - from) > 12) state.zoom = [Math.min(a, b), Math.max(a, b)];
        draw();
      };
      addEventListener("pointermove", move); addEventListener("pointerup", up);
    });
    svg.addEventListener("dblclick", () => { state.zoom = null; draw(); });
    zoom.textContent = state.zoom ? "Full scale" : "Zoom to data";
    plot.replaceChildren(svg);
  }
  function point(target, text) {
    tip.textContent = text; tip.hidden = false;
    const r = target.getBoundingClientRect(), b = box.getBoundingClientRect();
    const left = r.left - b.left + r.width / 2, flip = left > b.width / 2;
    tip.style.left = flip ? "auto" : `${left + 14}px`; tip.style.right = flip ? `${b.width - left + 14}px` : "auto";
    tip.style.top = `${Math.max(4, r.top - b.top - 20)}px`;
  }
  draw();
}
function ticks(lo, hi) {
  const raw = (hi - lo) / 5, mag = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 2.5, 5, 10].map((k) => k * mag).find((s) => s >= raw);
  const out = [];
  for (let v = Math.ceil(lo / step) * step; v <= hi + 1e-9; v += step) out.push(v);
  return out;
}
const colour = (i) => `var(--s${i % 7})`;
function points(runs, axis, places, metric, filter) {
  const scale = share(metric) ? 100 : 1;
  return places.map((place, at) => ({ at, filter: `${filter} ${axis}=${show(place)}`, values: runs.filter((r) => r[axis] === place && r[metric] !== null && r[metric] !== undefined).map((r) => ({ value: Number(r[metric]) * scale, run: r })) })).filter((p) => p.values.length);
}
function charts() {
  const all = objects(DATA.runs), compared = new Set(DATA.compared);
  const host = $("charts"), runs = compared.size ? all.filter((r) => compared.has(r.task)) : all;
  const choice = $("metric")?.value || "";
  const select = el("select", { id: "metric", onchange: charts }, el("option", { value: "" }, "OOD and ID accuracy"), ...DATA.metrics.filter((m) => runs.some((r) => typeof r[m] === "number")).map((m) => el("option", { value: m }, nice(m))));
  select.value = choice;
  const focused = document.activeElement?.id === "metric";
  host.replaceChildren(el("div", { class: "bar" }, el("label", { for: "metric" }, "Show"), select));
  if (focused) select.focus();
  const metrics = choice ? [choice] : ["ood_acc", "id_acc"], percent = share(metrics[0]), yTitle = percent ? (choice ? `${nice(choice)}, %` : "accuracy, %") : nice(choice);
  const what = choice ? nice(choice) : "Accuracy";
  const places = distinct(runs.map((r) => r.n_bg));
  const main = runs.filter((r) => r.lambda === null || r.method !== "dissimilarity" || r.lambda === DATA.main_lambda);
  const everyMethod = distinct(main.map((r) => r.method)).sort((a, b) => (b === "dissimilarity") - (a === "dissimilarity") || (b === "erm") - (a === "erm"));
  // Many methods at one N are ranked in a chart of their own: here only those along N.
  const reach = (m) => distinct(main.filter((r) => r.method === m).map((r) => r.n_bg)).length;
  const along = everyMethod.filter((m) => reach(m) > 1), methods = along.length ? along : everyMethod;
  const label = (m) => m === "erm" ? "cross-entropy" : m === "dissimilarity" ? `dissimilarity, λ = ${show(DATA.main_lambda)}` : m.replaceAll("_", " ");
  const series = methods.flatMap((m, i) => metrics.map((metric, k) => ({ name: label(m) + (choice ? "" : k ? ": ID" : ": OOD"), colour: colour(i), dash: k === 1, points: points(main.filter((r) => r.method === m), "n_bg", places, metric, m === "dissimilarity" ? `method=${m} lambda=${show(DATA.main_lambda)}` : `method=${m}`) })));
  if (runs.length) chart(host, { title: `${what} against the number of backgrounds a label`, series, ticks: places.map(show), xTitle: "N", yTitle, percent });
  ranking(host, main, label, choice || "ood_acc");
  const swept = DATA.sweep_n, here = runs.filter((r) => r.n_bg === swept && r.method === "dissimilarity" && r.lambda !== null);
  const lambdas = distinct(here.map((r) => r.lambda));
  if (lambdas.length > 1) chart(host, {
    title: `${what} against λ at N = ${swept}, and the share of dead runs`, ticks: lambdas.map(show), xTitle: "λ", yTitle, percent, lower: DATA.dead,
    series: metrics.map((metric, k) => ({ name: choice ? nice(choice) : k ? "ID" : "OOD", colour: colour(k ? 6 : 0), dash: k === 1, points: points(here, "lambda", lambdas, metric, `method=dissimilarity n_bg=${swept}`) })),
  });
  curves(host);
}
// Methods at the N where most were run, the best first.
function ranking(host, main, label, metric) {
  const count = (n) => distinct(main.filter((r) => r.n_bg === n).map((r) => r.method)).length;
  const n = distinct(main.map((r) => r.n_bg)).sort((a, b) => count(b) - count(a) || b - a)[0];
  if (n === undefined || count(n) < 3) return;
  const here = main.filter((r) => r.n_bg === n && typeof r[metric] === "number");
  const mean = (m) => summary(here.filter((r) => r.method === m).map((r) => r[metric])).mean;
  const places = distinct(here.map((r) => r.method)).sort((a, b) => mean(b) - mean(a));
  const told = (m) => here.find((r) => r.method === m)?.told || "nothing";
  const kinds = distinct(here.map((r) => r.told || "nothing"));
  const series = kinds.map((kind, i) => ({ name: `told ${kind.replaceAll("_", " ")}`, colour: colour(i), line: false, points: points(here.filter((r) => told(r.method) === kind), "method", places, metric, `n_bg=${n}`) }));
  chart(host, { title: `${nice(metric)} of every method at N = ${n}`, series, ticks: places.map((m) => label(m).replace(/, λ.*/, "")), tilted: places.length > 6, xTitle: "method", yTitle: nice(metric) + (share(metric) ? ", %" : ""), percent: share(metric) });
}
// Training curves: the mean over seeds of what was logged at each epoch.
let curve = { metric: "penalty", n: null };
function curves(host) {
  const kept = new Set(DATA.compared), epochs = objects(DATA.epochs).filter((e) => !kept.size || !e.task || kept.has(e.task));
  if (!epochs.length) return;
  const numbers = DATA.epochs.columns.filter((c) => !["n_bg", "method", "lambda", "seed", "data_seed", "task", "epoch"].includes(c) && epochs.some((e) => typeof e[c] === "number"));
  const ns = distinct(epochs.map((e) => e.n_bg));
  if (!numbers.includes(curve.metric)) curve.metric = numbers[0];
  if (!ns.includes(curve.n)) curve.n = ns.includes(DATA.sweep_n) ? DATA.sweep_n : ns[0];
  const pick = (id, options, value, set) => { const s = el("select", { id, onchange: (e) => { set(e.target.value); charts(); $(id).focus(); } }, ...options.map((o) => el("option", { value: o }, id === "curve" ? nice(o) : `N = ${o}`))); s.value = value; return s; };
  host.append(el("div", { class: "bar" }, el("label", { for: "curve" }, "Training curve of"), pick("curve", numbers, curve.metric, (v) => { curve.metric = v; }), el("label", { for: "curve-n" }, "at"), pick("curve-n", ns, curve.n, (v) => { curve.n = Number(v); })));
  const here = epochs.filter((e) => e.n_bg === curve.n), places = distinct(here.map((e) => e.epoch));
  const kinds = distinct(here.map((e) => `${e.method}\u0000${show(e.lambda)}`));
  const series = kinds.map((kind, i) => {
    const [method, lambda] = kind.split("\u0000"), of = here.filter((e) => e.method === method && show(e.lambda) === lambda);
    const filter = `n_bg=${curve.n} method=${method}` + (lambda === "-" ? "" : ` lambda=${lambda}`);
    return { name: lambda === "-" || method === "erm" ? method : `${method}, λ = ${lambda}`, colour: colour(i), dash: i >= 7, points: points(of, "epoch", places, curve.metric, filter).map((p) => ({ ...p, filter })) };
  });
  chart(host, { title: `${nice(curve.metric)} by epoch at N = ${curve.n}`, series, ticks: places.map(show), xTitle: "epoch", yTitle: nice(curve.metric) + (share(curve.metric) ? ", %" : ""), percent: false, dots: false });
}

// Tables -----------------------------------------------------------------------------------------
function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, i) => {
    if ([...table.tBodies[0].rows].some((r) => /^[a-z]/i.test(r.cells[i].textContent))) { head.classList.add("text"); for (const r of table.tBodies[0].rows) r.cells[i].classList.add("text"); }
    head.firstElementChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (r) => { const t = r.cells[i].textContent, n = parseFloat(t); return isNaN(n) ? t : n; };
      const order = (a, b) => { const x = key(a), y = key(b); return typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? 1 : -1; };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)));
    });
  });
}
// A box above a long table: rows without its words are hidden.
function filterable(table) {
  if (table.tBodies[0].rows.length < 8) return;
  const what = table.parentElement.getAttribute("aria-label");
  const input = el("input", { type: "search", "aria-label": `Filter: ${what}`, placeholder: "Filter rows", size: 20, oninput: () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of table.tBodies[0].rows) row.hidden = !words.every((w) => row.textContent.toLowerCase().includes(w));
  } });
  table.parentElement.before(el("div", { class: "bar" }, input));
}
function runsTable() {
  const runs = objects(DATA.runs), facts = ["n_bg", "method", "lambda", ...DATA.varying, "seed"].filter((f) => DATA.runs.columns.includes(f));
  const metrics = ["id_acc", "ood_acc", "conflict_acc", "black_acc", "background_only_acc", "same_group_similarity"].filter((m) => DATA.runs.columns.includes(m));
  const cell = (m, v) => v === null ? "-" : share(m) ? (100 * v).toFixed(1) : v.toFixed(3);
  const head = el("thead", {}, el("tr", {}, ...[...facts, ...metrics].map((c) => el("th", { scope: "col" }, el("button", { type: "button" }, SHORT[c] || nice(c).replace(" accuracy", "") + (share(c) ? " %" : "")))), el("th", { scope: "col" }, el("button", { type: "button" }, "state"))));
  const rows = runs.map((run) => {
    const first = el("td", {}, el("button", { type: "button", "aria-label": `Run ${run.task || facts.map((f) => `${f} ${show(run[f])}`).join(", ")}` }, show(run[facts[0]])));
    const row = el("tr", run.dead ? { class: "dead" } : {}, first, ...facts.slice(1).map((f) => el("td", {}, show(run[f]))), ...metrics.map((m) => el("td", {}, cell(m, run[m]))), el("td", {}, run.dead ? "dead" : "alive"));
    row.addEventListener("click", () => open(run));
    row.run = run;
    return row;
  });
  $("runs").replaceChildren(head, el("tbody", {}, ...rows));
  sortable($("runs"));
  filter();
}
function filter() {
  const words = $("filter").value.trim().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of $("runs").tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    const hit = words.every((w) => { const at = w.indexOf("="); return at > 0 ? w.slice(at + 1).split("|").includes(show(row.run[w.slice(0, at)])) : text.includes(w.toLowerCase()); });
    row.hidden = !hit; shown += hit;
  }
  $("count").textContent = `${shown} of ${DATA.runs.rows.length} runs`;
}
function filterTo(text) { $("filter").value = text.trim(); filter(); $("every-run").scrollIntoView(); }

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
  document.querySelectorAll("table.sortable:not(#runs)").forEach((table) => { sortable(table); filterable(table); });
  runsTable();
  $("filter").addEventListener("input", filter);
  document.querySelectorAll("[data-runs]").forEach((b) => b.addEventListener("click", () => filterTo(b.dataset.runs)));
  stages();
}
start();
if (PROVENANCE?.live) { $("live").hidden = false; $("live").textContent = "Live"; live(PROVENANCE.live); }
