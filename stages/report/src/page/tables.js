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
