//! `dissim diff`: two tasks, or two runs, side by side.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};

use super::standing::{LastRun, last_run, when};
use super::{Cli, Failure, Result, Selection, diff_runs, print, print_json, runs, target};
use crate::execute;
use crate::graph::Study;
use crate::plan::{Planner, State};
use crate::registry::Registry;
use crate::secret;
use crate::store::{Record, Store};

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// A task, or the start of a task key, such as `show` prints it; or a run of `dissim runs`, `last`
    /// being the last and `last~1` the one before.
    #[arg(add = super::complete::targets())]
    a: String,
    /// Another of the same sort.
    #[arg(add = super::complete::targets())]
    b: String,
    #[command(flatten)]
    selection: Selection,
    /// Of two tasks, also what is equal.
    #[arg(long)]
    all: bool,
    /// Of two runs, the metrics of each task in place of means over the tasks of a stage.
    #[arg(long)]
    tasks: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A fact of both: its section, its name, and how it stands in each.
struct Fact {
    section: &'static str,
    name: String,
    a: Option<Value>,
    b: Option<Value>,
}

pub(super) fn diff(cli: &Cli, args: &DiffArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    match (runs::find(&store, &args.a), runs::find(&store, &args.b)) {
        (Some(a), Some(b)) => return diff_runs::diff(&store, &a, &b, args.tasks, args.json),
        (None, None) => {}
        (found, _) => {
            let other = if found.is_some() { &args.b } else { &args.a };
            return Err(Failure::Input(format!(
                "error: one side is a run, and `{other}` is none\n  help: dissim runs\n"
            )));
        }
    }
    let states = Planner::new(&study, &store).plan();
    let a = find(&study, &store, &states, &args.a)?;
    let b = find(&study, &store, &states, &args.b)?;
    for side in [&a, &b] {
        if let Some(reason) = side.reason {
            let (task, ran) = (&side.record.task, when(&side.record));
            say!("note: `{task}`: {reason}; compared is its last run, at {ran}");
        }
    }
    let mut facts = facts(&store, &a.record, &b.record);
    if !args.all {
        facts.retain(|fact| fact.a != fact.b);
    }
    // After the comparison: secrets that differ are still shown to differ.
    for fact in facts.iter_mut().filter(|fact| fact.section == "parameters") {
        for side in [&mut fact.a, &mut fact.b] {
            *side = side.take().map(|value| secret::mask(&fact.name, &value));
        }
    }
    if args.json {
        let rows: Vec<_> = facts
            .iter()
            .map(|f| json!({ "section": f.section, "name": f.name, "a": f.a, "b": f.b }))
            .collect();
        return print_json(&json!({
            "a": a.named(), "b": b.named(), "facts": rows,
        }));
    }
    print(&told(&a.record, &b.record, &facts))
}

/// A side of a comparison.
struct Side {
    record: Record,
    /// Why the record is not the result of the pipeline as it stands, if it was asked for by name and is
    /// not.
    reason: Option<&'static str>,
}

impl Side {
    fn named(&self) -> Value {
        let mut named = json!({ "task": self.record.task, "key": self.record.key });
        if let Some(reason) = self.reason {
            named["note"] = reason.into();
        }
        named
    }
}

/// The record of a task by its name, or by the first letters of its key.
fn find(study: &Study, store: &Store, states: &[State], text: &str) -> Result<Side> {
    let hex = text.len() >= 4 && text.chars().all(|c| c.is_ascii_hexdigit());
    if hex {
        let records = store.records()?;
        let mut found = records.into_iter().filter(|r| r.key.as_str().starts_with(text));
        match (found.next(), found.next()) {
            (Some(record), None) => return Ok(Side { record, reason: None }),
            (Some(_), Some(_)) => {
                let what = format!(
                    "error: more than one task key starts with `{text}`\n  help: write more of it\n"
                );
                return Err(Failure::Input(what));
            }
            (None, _) => {}
        }
    }
    let tasks = target::select(study, std::slice::from_ref(&text.to_owned()))?;
    let Some(&task) = tasks.first().filter(|_| tasks.len() == 1) else {
        let what =
            format!("error: `{text}` means {} tasks; a side of `diff` is one\n", tasks.len());
        return Err(Failure::Input(what));
    };
    let name = &study.tasks[task].name;
    match last_run(store, name, &states[task]) {
        Some((LastRun::Done(record), standing)) => {
            Ok(Side { record: *record, reason: standing.reason() })
        }
        Some((LastRun::Failed(_), _)) => Err(Failure::Input(format!(
            "error: `{name}` failed when it last ran, so it has no result to compare\n  help: dissim log '{name}'\n"
        ))),
        None => Err(Failure::Input(format!(
            "error: `{name}` never ran, so it has no result to compare\n  help: dissim run '{name}'\n"
        ))),
    }
}

fn facts(store: &Store, a: &Record, b: &Record) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut section = |section: &'static str, a: Vec<(String, Value)>, b: Vec<(String, Value)>| {
        let find = |list: &[(String, Value)], name: &str| {
            list.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
        };
        let names: BTreeSet<&String> = a.iter().chain(&b).map(|(name, _)| name).collect();
        for name in names {
            let (a, b) = (find(&a, name), find(&b, name));
            facts.push(Fact { section, name: name.clone(), a, b });
        }
    };
    let params = |r: &Record| {
        let params = r.description.params.iter();
        params.map(|(n, v)| (n.clone(), v.clone())).collect::<Vec<_>>()
    };
    section("parameters", params(a), params(b));
    let inputs = |r: &Record| {
        let each = r.description.inputs.iter().map(|(name, list)| {
            let digests: Vec<_> = list.artifacts.iter().map(|i| i.artifact.short()).collect();
            (name.clone(), json!(digests.join(" ")))
        });
        let files = r.description.files.iter().map(|(f, d)| (f.clone(), json!(d.short())));
        let code = ("code".to_owned(), json!(r.description.code.short()));
        each.chain(files).chain([code]).collect::<Vec<_>>()
    };
    section("inputs", inputs(a), inputs(b));
    let outputs = |r: &Record| {
        let tree = store.tree(&r.artifact).unwrap_or_default();
        tree.files.into_iter().map(|(f, e)| (f, json!(e.digest.short()))).collect::<Vec<_>>()
    };
    section("outputs", outputs(a), outputs(b));
    let metrics =
        |r: &Record| r.metrics.iter().map(|(n, v)| (n.clone(), json!(v))).collect::<Vec<_>>();
    section("metrics", metrics(a), metrics(b));
    facts
}

fn told(a: &Record, b: &Record, facts: &[Fact]) -> String {
    let head =
        |r: &Record| format!("{}  {}  {}", r.task, r.key.short(), execute::seconds(r.duration_s));
    let mut text = format!("a  {}\nb  {}\n", head(a), head(b));
    if facts.is_empty() {
        return text + "no difference\n";
    }
    let cell = |value: &Option<Value>| match value {
        None => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(n)) if n.is_f64() => {
            n.as_f64().map_or_else(|| n.to_string(), |f| format!("{f:.6}"))
        }
        Some(Value::Null) => "not a number".to_owned(),
        Some(other) => other.to_string(),
    };
    let rows: Vec<[String; 4]> = facts
        .iter()
        .map(|f| {
            let delta = match (f.section, &f.a, &f.b) {
                ("metrics", Some(a), Some(b)) => match (a.as_f64(), b.as_f64()) {
                    (Some(a), Some(b)) => format!("{:+.6}", b - a),
                    _ => String::new(),
                },
                _ => String::new(),
            };
            [f.name.clone(), cell(&f.a), cell(&f.b), delta]
        })
        .collect();
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
    let (name, left, right) = (width(0), width(1), width(2));
    let mut section = "";
    for (fact, [n, a, b, delta]) in facts.iter().zip(&rows) {
        if fact.section != section {
            section = fact.section;
            text += &format!("  {section}\n");
        }
        let line = format!("    {n:name$}  {a:left$}  {b:right$}  {delta}");
        text += &format!("{}\n", line.trim_end());
    }
    text
}
