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
// What is told of a mark, beside it.
function tipIn(box) {
  const tip = el("div", { class: "tip", role: "status", hidden: "" });
  box.append(tip);
  const show = (target, text) => {
    tip.textContent = text; tip.hidden = false;
    const r = target.getBoundingClientRect(), b = box.getBoundingClientRect();
    const left = r.left - b.left + r.width / 2, flip = left > b.width / 2;
    tip.style.left = flip ? "auto" : `${left + 14}px`; tip.style.right = flip ? `${b.width - left + 14}px` : "auto";
    tip.style.top = `${Math.max(4, r.top - b.top - 20)}px`;
  };
  return { show, hide: () => { tip.hidden = true; } };
}
