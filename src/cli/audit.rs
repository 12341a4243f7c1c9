//! `dissim audit`.

use std::num::NonZeroUsize;

use clap::Args;
use serde_json::json;

use super::{Cli, Failure, Result, Selection, print, print_json, target};
use crate::execute::{self, Audited, Cancel};
use crate::plan::{Planner, State};
use crate::registry::Registry;

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Stages, tasks or globs of task names; all by default.
    #[arg(add = super::complete::targets())]
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Only so many of them, drawn by their keys: the same ones while nothing changes.
    #[arg(long, value_name = "K")]
    sample: Option<NonZeroUsize>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn audit(cli: &Cli, args: &AuditArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    let targets = target::select(&study, &args.targets)?;
    let mut states: Vec<Option<State>> =
        Planner::new(&study, &store).plan().into_iter().map(Some).collect();
    let mut cached: Vec<_> = targets
        .into_iter()
        .filter_map(|task| match states[task].take() {
            Some(State::Hit(record)) => Some((task, *record)),
            _ => None,
        })
        .collect();
    if let Some(most) = args.sample {
        // A key is as good as a random number.
        cached.sort_by(|a, b| a.1.key.cmp(&b.1.key));
        cached.truncate(most.get());
        cached.sort_by_key(|(task, _)| *task);
    }
    let cancel: &'static Cancel = Box::leak(Box::default());
    ctrlc::set_handler(|| cancel.request())
        .map_err(|e| Failure::Input(format!("error: cannot listen for Ctrl-C: {e}\n")))?;
    let program = std::env::current_exe()?;
    let (mut differ, mut rows) = (0, Vec::new());
    for (task, record) in &cached {
        let name = &study.tasks[*task].name;
        say!("      start {name}");
        let (state, what) = match execute::audit(&study, &store, *task, record, &program, cancel)? {
            Audited::Same => ("same", "same bytes".to_owned()),
            Audited::Differs { first, more } => {
                let more = if more == 0 { String::new() } else { format!(", and {more} more") };
                ("differs", format!("{first}{more}"))
            }
            Audited::Failed(why) => ("failed", why),
            Audited::Cancelled => return Err(Failure::Interrupted),
        };
        differ += usize::from(state != "same");
        if !args.json {
            print(&format!("{state:7}  {name}: {what}\n"))?;
        }
        rows.push(json!({ "task": name, "result": state, "what": what }));
    }
    if args.json {
        print_json(&rows)?;
    } else {
        let count = cached.len();
        print(&format!("{count} cached tasks ran again: {} same, {differ} not\n", count - differ))?;
    }
    if differ == 0 { Ok(()) } else { Err(Failure::Task) }
}
