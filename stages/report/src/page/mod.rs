//! index.html: one page that needs no network.

use std::collections::BTreeSet;

use dissim_api::{PipelineSummary, StageError};
use dissim_claims::Verdict;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;
use serde_json::{Value, json};

use crate::PROVENANCE_SLOT;
use crate::figures::Figure;
use crate::rivals::{Rival, Rivals};
use crate::runs::Run;
use crate::tables::{Cell, Grid};
use crate::text;
use crate::verdicts::{self, Judged};

const TEMPLATE: &str = include_str!("page.html");
const CSS: &str = include_str!("page.css");
/// One script: helpers, then what stands in the page, from the top.
const JS: &str = concat!(
    include_str!("base.js"),
    include_str!("charts.js"),
    include_str!("maps.js"),
    include_str!("tables.js"),
    include_str!("page.js"),
);

/// Everything the page shows.
pub(crate) struct Page {
    pub pipeline: Option<PipelineSummary>,
    pub verdicts: Vec<Judged>,
    pub grids: Vec<Grid>,
    pub headline: Vec<String>,
    pub figures: Vec<Figure>,
    pub rivals: Option<Rivals>,
    /// The sample grid, a PNG.
    pub samples: Option<Vec<u8>>,
    /// `summary.md`.
    pub summary: String,
    pub runs: Vec<Run>,
    /// What the charts are drawn from.
    pub data: Value,
}

/// A Markdown table taken apart.
#[derive(Serialize)]
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    note: String,
}

/// A stage's box in the drawing of the pipeline.
#[derive(Serialize)]
struct Node {
    x: usize,
    y: usize,
    name: String,
    about: String,
}

/// An arrow between two boxes.
#[derive(Serialize)]
struct Arrow {
    x1: usize,
    y1: usize,
    x2: usize,
    y2: usize,
    middle: usize,
}

#[derive(Serialize)]
struct Drawing {
    width: usize,
    height: usize,
    nodes: Vec<Node>,
    arrows: Vec<Arrow>,
}

impl Page {
    /// The page's HTML; every name in it is escaped.
    ///
    /// # Errors
    /// When the template does not fit, which would be a bug.
    pub fn render(&self) -> Result<String, StageError> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        let failed =
            |e: minijinja::Error| StageError::new(format!("the page cannot be written: {e:#}"));
        environment.add_template("page", TEMPLATE).map_err(failed)?;
        let template = environment.get_template("page").map_err(failed)?;
        let seeds = crate::runs::distinct(self.runs.iter().map(|r| r.seed)).len();
        let pipeline = self.pipeline.as_ref();
        let mut data = self.data.clone();
        data["maps"] = self.figures.iter().filter_map(map).collect();
        let with = |wanted: fn(Verdict) -> bool| -> Vec<&Judged> {
            self.verdicts.iter().filter(|j| wanted(j.judgement.verdict)).collect()
        };
        let measured = with(|v| !matches!(v, Verdict::NotRun | Verdict::NotJudged));
        let (mixed, others) = (with(|v| v == Verdict::NotJudged), with(|v| v == Verdict::NotRun));
        let shared = shared_note(&measured);
        let view = json!({
            "name": pipeline.map_or("study", |p| p.name.as_str()),
            "profile": pipeline.and_then(|p| p.profile.as_deref()),
            "tasks": pipeline.map(|p| p.stages.iter().map(|s| s.tasks).sum::<usize>()),
            "drawing": pipeline.map(drawing),
            "headline": self.headline,
            "css": CSS,
            "js": JS,
            "data": script(&data),
            "tally": tally(&self.verdicts),
            "shared_note": shared,
            "claims": {
                "measured": measured.iter().map(|j| verdict(j, shared)).collect::<Vec<_>>(),
                "mixed": mixed.iter().map(|j| verdict(j, shared)).collect::<Vec<_>>(),
                "others": others.iter().map(|j| verdict(j, shared)).collect::<Vec<_>>(),
            },
            // What this profile has no runs for is no table.
            "tables": self.grids.iter().filter(|g| !g.rows.is_empty()).map(grid).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "rivals": self.rivals.as_ref().map(rivals),
            "samples": self.samples.as_deref().map(base64),
            "summary": table(&self.summary),
            "runs": self.runs.len(),
            "seeds": seeds,
            "version": env!("CARGO_PKG_VERSION"),
            "slot": PROVENANCE_SLOT,
        });
        template.render(Serde(&view)).map_err(failed)
    }
}

/// JSON for a script element: no text in it can end the element.
fn script(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

/// How many claims have each verdict.
fn tally(judged: &[Judged]) -> Vec<Value> {
    let mut verdicts =
        vec![Verdict::Supported, Verdict::Refuted, Verdict::Inconclusive, Verdict::NotRun];
    if judged.iter().any(|j| j.judgement.verdict == Verdict::NotJudged) {
        verdicts.push(Verdict::NotJudged);
    }
    let count = |verdict: Verdict| {
        let n = judged.iter().filter(|j| j.judgement.verdict == verdict).count();
        json!({ "n": n, "verdict": verdict.as_str(), "class": class(verdict) })
    };
    verdicts.into_iter().map(count).collect()
}

fn class(verdict: Verdict) -> String {
    verdict.as_str().replace(' ', "-")
}

/// What is to be said of every claim, where there are several: once is enough.
fn shared_note<'a>(measured: &[&'a Judged]) -> Option<&'a str> {
    let notes: BTreeSet<&str> =
        measured.iter().map(|j| j.judgement.note.as_deref().unwrap_or_default()).collect();
    let shared = notes.first().copied().filter(|n| notes.len() == 1 && !n.is_empty());
    shared.filter(|_| measured.len() > 1)
}

/// A claim as the page shows it, but for what is said of all.
fn verdict(Judged { judgement, filter }: &Judged, shared: Option<&str>) -> Value {
    json!({
        "filter": filter,
        "id": judgement.id,
        "says": judgement.says,
        "verdict": judgement.verdict.as_str(),
        "class": class(judgement.verdict),
        "expected": verdicts::expectation(judgement.expect),
        "effect": verdicts::effect(judgement),
        "interval": verdicts::interval(judgement),
        "along": judgement.along,
        "p": judgement.p,
        "p_holm": judgement.p_holm,
        "n": judgement.n,
        "superiority": judgement.superiority,
        "mcnemar": judgement.mcnemar.map(|m| {
            format!("a alone in {} pairs, b alone in {}: exact McNemar p {:.4}", m.only_a, m.only_b, m.p)
        }),
        "note": judgement.note.as_deref().filter(|n| Some(*n) != shared),
    })
}

/// A figure, as it stands in a page without scripts.
fn figure(figure: &Figure) -> Value {
    json!({ "name": figure.name, "caption": figure.caption, "svg": figure.svg })
}

/// What the page draws a map from.
fn map(figure: &Figure) -> Option<Value> {
    let mut data = figure.data.clone()?;
    data["name"] = figure.name.clone().into();
    // Some are laid out otherwise in print.
    if data["caption"].is_null() {
        data["caption"] = figure.caption.clone().into();
    }
    Some(data)
}

/// The table of methods at one N.
fn rivals(rivals: &Rivals) -> Value {
    let (header, rows) = rivals.table();
    let row = |(cells, rival): (Vec<String>, &Rival)| {
        let lambda = rival.lambda.map(|l| format!(" lambda={l}")).unwrap_or_default();
        let filter = format!("n_bg={} method={}{lambda}", rivals.n_bg, rival.method);
        json!({ "cells": cells, "filter": filter })
    };
    json!({ "n_bg": rivals.n_bg, "header": header, "note": rivals.note(),
            "rows": rows.into_iter().zip(&rivals.rows).map(row).collect::<Vec<_>>() })
}

/// A declared table as the page shows it: text and a mark a cell.
fn grid(grid: &Grid) -> Value {
    let rows: Vec<_> = grid
        .rows
        .iter()
        .zip(&grid.cells)
        .map(|(row, cells)| {
            let shown = |(cell, (group, _)): (&Option<Cell>, &(Vec<Value>, String))| {
                cell.as_ref().map(|cell| {
                    let (mean, half) = grid.text(cell);
                    let facts = grid.spec.rows.iter().zip(row);
                    let facts = facts.chain(grid.spec.columns.iter().zip(group));
                    let filter: Vec<_> =
                        facts.map(|(fact, v)| format!("{fact}={}", text::value(v))).collect();
                    json!({ "mean": mean, "half": half, "n": cell.n, "mark": cell.mark, "filter": filter.join(" ") })
                })
            };
            json!({
                "facts": row.iter().map(text::value).collect::<Vec<_>>(),
                "cells": cells.iter().zip(&grid.columns).map(shown).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "name": grid.spec.name, "caption": grid.spec.caption, "note": grid.note(str::to_owned),
        "header": grid.header(), "facts": grid.spec.rows.len(), "rows": rows,
    })
}

/// Header, rows and the text below a Markdown table.
fn table(markdown: &str) -> Table {
    let cells = |line: &str| -> Vec<String> {
        // A bar within a cell is escaped.
        let line = line.trim().trim_matches('|').replace("\\|", "\u{0}");
        line.split('|').map(|c| text::plain(&c.trim().replace('\u{0}', "\\|"))).collect()
    };
    let mut lines = markdown.lines().filter(|l| l.starts_with('|'));
    let header = lines.next().map(cells).unwrap_or_default();
    let rows = lines.skip(1).map(cells).collect();
    let note = markdown.lines().filter(|l| !l.starts_with('|')).collect::<Vec<_>>().join(" ");
    Table { header, rows, note: text::plain(note.trim()) }
}

const BOX: (usize, usize) = (132, 60);
const GAP: (usize, usize) = (44, 18);

/// Stages in layers from left to right, each right of what it needs.
fn drawing(pipeline: &PipelineSummary) -> Drawing {
    let mut layers: Vec<usize> = Vec::new();
    let index = |name: &str| pipeline.stages.iter().position(|s| s.name == name);
    for stage in &pipeline.stages {
        let needs = stage.needs.iter().filter_map(|n| index(n)).filter_map(|i| layers.get(i));
        layers.push(needs.max().map_or(0, |l| l + 1));
    }
    let mut filled = vec![0; layers.iter().max().map_or(0, |l| l + 1)];
    let mut nodes = Vec::new();
    for (stage, &layer) in pipeline.stages.iter().zip(&layers) {
        let noun = if stage.tasks == 1 { "task" } else { "tasks" };
        nodes.push(Node {
            x: 4 + layer * (BOX.0 + GAP.0),
            y: 4 + filled[layer] * (BOX.1 + GAP.1),
            name: stage.name.clone(),
            about: format!("{} · {} {noun}", stage.kind, stage.tasks),
        });
        filled[layer] += 1;
    }
    let mut arrows = Vec::new();
    for (to, stage) in pipeline.stages.iter().enumerate() {
        for from in stage.needs.iter().filter_map(|n| index(n)) {
            let (x1, y1) = (nodes[from].x + BOX.0, nodes[from].y + BOX.1 / 2);
            let (x2, y2) = (nodes[to].x - 6, nodes[to].y + BOX.1 / 2);
            arrows.push(Arrow { x1, y1, x2, y2, middle: x2 - GAP.0 / 2 });
        }
    }
    let height = filled.iter().max().copied().unwrap_or(1) * (BOX.1 + GAP.1);
    Drawing { width: filled.len() * (BOX.0 + GAP.0), height, nodes, arrows }
}

/// Standard base64 (RFC 4648), for data URIs.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().chain([0; 2].iter()).take(3).fold(0u32, |w, b| w << 8 | u32::from(*b));
        for digit in 0..4 {
            let six = (word >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[six]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648, section 10.
    #[test]
    fn base64_test_vectors() {
        let found = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|t| base64(t.as_bytes()));
        assert_eq!(found, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn a_markdown_table_comes_apart() {
        let found = table("| a | b |\n|---|--:|\n| x\\|y &lt;b&gt; | 2 |\n\nnote.\n");
        assert_eq!(
            (found.header, found.rows, found.note),
            (
                vec!["a".into(), "b".into()],
                vec![vec!["x|y <b>".into(), "2".into()]],
                "note.".into(),
            )
        );
    }
}
