// Maps ------------------------------------------------------------------------------------------
// Tiles: one stop of the keyboard; the arrows move within, Enter leads to the runs.
function tiles(host, m) {
  const [w, h] = m.size, left = 78, top = 8, width = left + w * m.x.length + 8, height = top + h * m.y.length + 46;
  const box = el("div", { class: "chart", role: "group", "aria-label": m.title, style: `flex:${width} 1 ${Math.min(width, 330)}px;max-width:${width * 1.15}px` }, el("h3", {}, m.title)), tip = tipIn(box);
  const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "application", "aria-label": `${m.title}: move with the arrow keys` });
  const label = (x, y, text, more = {}) => svg.append(el("text", { x, y, "text-anchor": "middle", ...more }, text));
  m.x.forEach((t, i) => label(left + w * (i + 0.5), top + h * m.y.length + 18, t));
  m.y.forEach((t, i) => label(left - 8, top + h * (i + 0.5) + 4, t, { "text-anchor": "end" }));
  label(left + w * m.x.length / 2, height - 6, m.x_title);
  label(14, top + h * m.y.length / 2, m.y_title, { transform: `rotate(-90 14 ${top + h * m.y.length / 2})` });
  const marks = m.cells.map((row, r) => row.map((tile, c) => {
    const x = left + w * c, y = top + h * r;
    if (!tile) { label(x + w / 2, y + h / 2 + 4, "-"); return null; }
    const rect = el("rect", { class: tile.best ? "tile best" : "tile", x, y, width: w - 1, height: h - 1, fill: tile.colours[0], onmouseenter: () => tip.show(rect, tile.about), onmouseleave: tip.hide, onclick: () => tile.filter && filterTo(tile.filter) });
    if (tile.filter) rect.style.cursor = "pointer";
    svg.append(rect);
    tile.text.forEach((line, i) => label(x + w / 2, y + h / 2 + 4 + 19 * (i - (tile.text.length - 1) / 2), line, { style: `fill:${tile.colours[1]}`, class: "in" }));
    return rect;
  }));
  let at = [0, 0];
  const here = () => marks[at[0]][at[1]];
  const mark = (on) => { here()?.classList.toggle("here", on); on && here() ? tip.show(here(), m.cells[at[0]][at[1]].about) : tip.hide(); };
  svg.addEventListener("focus", () => svg.matches(":focus-visible") && mark(true));
  svg.addEventListener("blur", () => mark(false));
  svg.addEventListener("keydown", (e) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
    const filter = m.cells[at[0]][at[1]]?.filter;
    if (e.key === "Enter" && filter) filterTo(filter);
    if (!step) return;
    e.preventDefault(); mark(false);
    at = [Math.max(0, Math.min(m.y.length - 1, at[0] + step[0])), Math.max(0, Math.min(m.x.length - 1, at[1] + step[1]))];
    mark(true);
  });
  box.append(svg); host.append(box);
}
// Embeddings in a plane: colours by digit or by background, each can be hidden; drag to zoom.
function planes(host, m) {
  const state = { by: "digit", hidden: new Set(), zoom: m.planes.map(() => null) };
  const by = el("select", { id: "plane-colours", onchange: (e) => { state.by = e.target.value; state.hidden.clear(); draw(); } }, ...["digit", "background"].map((o) => el("option", { value: o }, `by ${o}`)));
  const legend = el("div", { class: "bar" }), row = el("div", { class: "maps" });
  host.append(el("div", { class: "bar" }, el("label", { for: "plane-colours" }, "Colour"), by), legend, row);
  const kinds = () => distinct(m.planes.flatMap((p) => p[state.by])), tint = (k) => m.colours[k % m.colours.length];
  function draw() {
    legend.replaceChildren(...(kinds().length > 32 ? [] : kinds().map((k) => el("button", { type: "button", "aria-pressed": String(!state.hidden.has(k)), "aria-label": `${state.by} ${k}`, onclick: () => { state.hidden.has(k) ? state.hidden.delete(k) : state.hidden.add(k); const i = kinds().indexOf(k); draw(); legend.children[i].focus(); } }, el("span", { class: "dot", style: `background:${tint(k)}` }), String(k)))));
    row.replaceChildren();
    m.planes.forEach((p, i) => plane(row, p, i));
  }
  function plane(row, p, index) {
    const S = 460, box = el("div", { class: "chart", role: "group", "aria-label": `Embeddings: ${p.title}`, style: "flex:1 1 330px" }, el("h3", {}, p.title)), tip = tipIn(box);
    const svg = el("svg", { viewBox: `0 0 ${S} ${S}`, role: "img", "aria-label": `${p.title}: ${p.x.length} embeddings by ${state.by}` });
    const lo = (v) => Math.min(...v), hi = (v) => Math.max(...v), span = Math.max(hi(p.x) - lo(p.x), hi(p.y) - lo(p.y), 1e-9) * 1.06;
    const whole = [(hi(p.x) + lo(p.x)) / 2 - span / 2, (hi(p.y) + lo(p.y)) / 2 - span / 2, span], [x0, y0, wide] = state.zoom[index] || whole;
    const x = (v) => S * (v - x0) / wide, y = (v) => S - S * (v - y0) / wide;
    p.x.forEach((v, i) => {
      const kind = p[state.by][i], cx = x(v), cy = y(p.y[i]);
      if (state.hidden.has(kind) || cx < 0 || cy < 0 || cx > S || cy > S) return;
      const text = `digit ${p.digit[i]}\nbackground ${p.background[i] + 1} of its label`;
      svg.append(el("circle", { class: "point", cx, cy, r: 4, fill: tint(kind), onmouseenter: (e) => tip.show(e.currentTarget, text), onmouseleave: tip.hide }));
    });
    const note = el("p", { class: "note" }, `Across: axis 1, ${(100 * p.shares[0]).toFixed(0)} % of the variance; up: axis 2, ${(100 * p.shares[1]).toFixed(0)} %`);
    const spot = (e) => { const r = svg.getBoundingClientRect(); return [(e.clientX - r.left) * S / r.width, (e.clientY - r.top) * S / r.width]; };
    svg.addEventListener("pointerdown", (e) => {
      if (e.pointerType === "touch") return;
      const from = spot(e), brush = el("rect", { class: "brush" });
      let side = 0, corner = from;
      svg.append(brush);
      const move = (to) => {
        const [a, b] = spot(to);
        side = Math.max(Math.abs(a - from[0]), Math.abs(b - from[1])); corner = [a < from[0] ? from[0] - side : from[0], b < from[1] ? from[1] - side : from[1]];
        for (const [k, v] of Object.entries({ x: corner[0], y: corner[1], width: side, height: side })) brush.setAttribute(k, v);
      };
      addEventListener("pointermove", move);
      addEventListener("pointerup", () => {
        removeEventListener("pointermove", move);
        brush.remove();
        // A click draws nothing anew, or a second one would meet another picture.
        if (side <= 12) return;
        state.zoom[index] = [x0 + corner[0] * wide / S, y0 + (S - corner[1] - side) * wide / S, side * wide / S];
        draw();
      }, { once: true });
    });
    svg.addEventListener("dblclick", () => { state.zoom[index] = null; draw(); });
    box.append(svg, note); row.append(box);
  }
  draw();
}
function maps() {
  $("maps").replaceChildren();
  for (const m of DATA.maps) {
    const figure = el("figure", {}), row = el("div", { class: "maps" });
    $("maps").append(figure);
    figure.append(el("figcaption", {}, m.caption));
    if (m.tiles) { m.tiles.forEach((t) => tiles(row, t)); figure.append(row); } else planes(figure, m);
  }
}
