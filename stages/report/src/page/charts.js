// Charts -----------------------------------------------------------------------------------------
const W = 980, LEFT = 58, RIGHT = 18, TOP = 14;
function chart(host, spec) {
  // Where runs of several settings meet there is no mean; the factors are named instead.
  const leftOut = distinct(spec.series.flatMap((s) => s.points.flatMap((p) => p.mixed)));
  for (const s of spec.series) s.points = s.points.filter((p) => !p.mixed.length);
  const state = { hidden: new Set(), zoom: null, percent: spec.percent };
  const legend = el("div", { class: "bar" }), plot = el("div", { class: "plot" });
  const box = el("div", { class: "chart", role: "group", "aria-label": spec.title }, el("h3", {}, spec.title), legend, plot), tip = tipIn(box);
  host.append(box);
  if (leftOut.length) box.append(el("p", { class: "note left-out" }, `Left out where runs of several settings met, which differ in ${leftOut.join(", ")}.`));
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
        const on = (e) => tip.show(e.currentTarget, text), go = () => filterTo(p.filter);
        svg.append(el("circle", { class: "mean", cx: px, cy: y(p.mean), r: spec.dots === false ? 3.5 : 5.5, fill: s.colour, tabindex: 0, role: "button", "aria-label": text.replaceAll("\n", ", "), onmouseenter: on, onfocus: on, onmouseleave: tip.hide, onblur: tip.hide, onclick: go, onkeydown: (e) => { if (e.key === "Enter") go(); } }));
      }
    });
    if (spec.lower) {
      const base = whole - 46, roof = H + 14, ly = (v) => base - (base - roof) * v / 100;
      for (const v of [0, 50, 100]) svg.append(el("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: ly(v), y2: ly(v) }), el("text", { x: LEFT - 8, y: ly(v) + 4, "text-anchor": "end" }, v));
      svg.append(el("text", { x: 14, y: (roof + base) / 2, transform: `rotate(-90 14 ${(roof + base) / 2})`, "text-anchor": "middle" }, "dead, %"));
      spec.lower.forEach((d, i) => {
        if (!d) return;
        const text = `${d.dead} of ${d.n} runs are dead at ${spec.ticks[i]}\n95 % Wilson interval ${d.low.toFixed(0)} to ${d.high.toFixed(0)} %`;
        const on = (e) => tip.show(e.currentTarget, text);
        svg.append(el("line", { x1: x(i), x2: x(i), y1: ly(d.low), y2: ly(d.high), stroke: "var(--s1)", "stroke-width": 1 }), el("circle", { cx: x(i), cy: ly(100 * d.dead / d.n), r: 4.5, fill: "var(--s1)" }),
          el("rect", { x: x(i) - 22, width: 44, y: roof, height: base - roof, fill: "transparent", tabindex: 0, role: "img", "aria-label": text.replaceAll("\n", ", "), onmouseenter: on, onfocus: on, onmouseleave: tip.hide, onblur: tip.hide }));
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
        brush.remove();
        // A click draws nothing anew, or a second one would meet another picture.
        if (Math.abs(to - from) <= 12) return;
        state.zoom = [Math.min(a, b), Math.max(a, b)];
        draw();
      };
      addEventListener("pointermove", move); addEventListener("pointerup", up);
    });
    svg.addEventListener("dblclick", () => { state.zoom = null; draw(); });
    zoom.textContent = state.zoom ? "Full scale" : "Zoom to data";
    plot.replaceChildren(svg);
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
// The factors in which runs differ that a mean would be over; of equal settings, a seed that stands twice.
function mixture(runs) {
  const found = DATA.factors.filter((f) => runs.some((r) => r[f] !== runs[0][f]));
  return found.length || distinct(runs.map((r) => r.seed)).length === runs.length ? found : ["task"];
}
function points(runs, axis, places, metric, filter) {
  const scale = share(metric) ? 100 : 1;
  return places.map((place, at) => {
    const here = runs.filter((r) => r[axis] === place), known = here.filter((r) => r[metric] !== null && r[metric] !== undefined);
    return { at, mixed: mixture(here), filter: `${filter} ${axis}=${show(place)}`, values: known.map((r) => ({ value: Number(r[metric]) * scale, run: r })) };
  }).filter((p) => p.values.length);
}
function charts() {
  const all = objects(DATA.runs), host = $("charts"), runs = DATA.compared.map((i) => all[i]);
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
  const { metrics = [], columns = [], rows = [], at = [] } = DATA.curves || {};
  if (!rows.length || !metrics.length) return;
  const ns = at.map((a) => a.n);
  if (!metrics.includes(curve.metric)) curve.metric = metrics[0];
  if (!ns.includes(curve.n)) curve.n = ns.includes(DATA.sweep_n) ? DATA.sweep_n : ns[0];
  const pick = (id, options, value, set) => { const s = el("select", { id, onchange: (e) => { set(e.target.value); charts(); $(id).focus(); } }, ...options.map((o) => el("option", { value: o }, id === "curve" ? nice(o) : `N = ${o}`))); s.value = value; return s; };
  host.append(el("div", { class: "bar" }, el("label", { for: "curve" }, "Training curve of"), pick("curve", metrics, curve.metric, (v) => { curve.metric = v; }), el("label", { for: "curve-n" }, "at"), pick("curve-n", ns, curve.n, (v) => { curve.n = Number(v); })));
  // A row is a run, an epoch, and what was logged of it; a curve is the runs of one setting.
  const column = columns.indexOf(curve.metric), scale = share(curve.metric) ? 100 : 1, here = at.find((a) => a.n === curve.n).series;
  const shown = new Set(here.flatMap((s) => s.runs)), known = rows.filter((r) => shown.has(r[0]) && r[column] !== null);
  const places = distinct(known.map((r) => r[1]));
  const series = here.map(({ name, filter, mixed, runs }, i) => {
    const own = new Set(runs), of = known.filter((r) => own.has(r[0]));
    const by = (epoch, at) => ({ at, mixed, filter, values: of.filter((r) => r[1] === epoch).map((r) => ({ value: r[column] * scale })) });
    return { name, colour: colour(i), dash: i >= 7, points: places.map(by).filter((p) => p.values.length) };
  });
  chart(host, { title: `${nice(curve.metric)} by epoch at N = ${curve.n}`, series, ticks: places.map(show), xTitle: "epoch", yTitle: nice(curve.metric) + (share(curve.metric) ? ", %" : ""), percent: false, dots: false });
}
