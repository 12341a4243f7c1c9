//! `dissim why`.

use clap::Args;
use dissim_api::Code;
use serde_json::json;

use super::{Cli, Result, Selection, print, print_json, target};
use crate::digest::Digest;
use crate::key::Description;
use crate::plan::{Planner, State};
use crate::registry::Registry;
use crate::store::Store;

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// Stages, tasks or globs of task names; all by default.
    #[arg(add = super::complete::targets())]
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn why(cli: &Cli, args: &WhyArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    let targets = target::select(&study, &args.targets)?;
    let mut planner = Planner::new(&study, &store);
    let states = planner.plan();
    planner.save();
    let (mut text, mut rows) = (String::new(), Vec::new());
    for task in targets {
        let name = &study.tasks[task].name;
        let (state, reasons) = match &states[task] {
            State::Hit(_) => ("hit", Vec::new()),
            State::Miss(description) => {
                let (_, code) = planner.code(task);
                ("miss", reasons(&store, name, description, &code))
            }
            State::Waiting => {
                let needs = study.tasks[task].needs.iter().flat_map(|n| n.tasks.iter());
                let stale = needs.filter(|&&n| !matches!(states[n], State::Hit(_)));
                let names: Vec<_> = stale.map(|&n| study.tasks[n].name.clone()).collect();
                ("waiting", vec![upstream(&names)])
            }
            State::Broken(why) => ("broken", vec![why.clone()]),
        };
        text += &format!("{name}: {state}\n");
        for reason in &reasons {
            text += &format!("  {reason}\n");
        }
        rows.push(json!({ "task": name, "state": state, "reasons": reasons }));
    }
    if args.json { print_json(&rows) } else { print(&text) }
}

/// Why a miss is none of the tasks that ran under its name.
fn reasons(store: &Store, name: &str, now: &Description, code: &Code) -> Vec<String> {
    let key = now.key();
    if store.failed_log(&key).exists() {
        return vec![format!("it failed when it last ran: dissim log '{name}'")];
    }
    if store.record(&key).is_some() {
        return vec!["its artifact is damaged or gone from the store".to_owned()];
    }
    let Some(before) = store.latest(name).and_then(|key| store.record(&key)) else {
        return vec!["it never ran".to_owned()];
    };
    // The code of this build may not be in the store yet.
    let manifest = |digest: &Digest| {
        if *digest == now.code { Some(code.clone()) } else { store.code(digest) }
    };
    let changes = Description::diff(&before.description, now, &manifest);
    changes.into_iter().map(|change| change.masked().to_string()).collect()
}

/// Names at most three of the tasks that are waited for.
fn upstream(names: &[String]) -> String {
    let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0..=3 => format!("waits for {shown}"),
        n => format!("waits for {shown} and {} more", n - 3),
    }
}
