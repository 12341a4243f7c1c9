//! `dissim serve`: the report as a live page while a run goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::report::{gather, open};
use super::{Cli, Failure, Result, Selection, interruptible, print};
use crate::digest::Digest;
use crate::execute::{Cancel, Several, wanted};
use crate::graph::{Study, TaskId};
use crate::partial::{self, Partial};
use crate::plan::{Planner, State};
use crate::provenance::{self, Behind};
use crate::registry::Registry;
use crate::say::calm;
use crate::secret::hide;
use crate::serve::Server;
use crate::store::{Store, Tree};

/// How often the cache is looked at.
const TICK: Duration = Duration::from_millis(1000);
/// A report is made again after so many times what the last one took: the run comes first.
const REST: u32 = 4;

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    selection: Selection,
    /// The port on 127.0.0.1; 0 lets the system choose.
    #[arg(long, default_value_t = 8765)]
    port: u16,
    /// Opens the page in the browser.
    #[arg(long)]
    open: bool,
}

pub(super) fn serve(cli: &Cli, args: &ServeArgs, registry: &Registry) -> Result<()> {
    let (_, store) = cli.open(&args.selection, registry)?;
    let server = Server::bind(args.port, &store).map_err(|e| {
        let port = args.port;
        Failure::Input(format!(
            "error: cannot listen on 127.0.0.1:{port}: {e}\n  help: name another with --port, or let the system choose with --port 0\n"
        ))
    })?;
    let address = format!("http://{}/", server.address());
    print(&format!("{address}\n"))?;
    say!("serving what the cache holds; Ctrl-C ends");
    if args.open {
        open(&address)?;
    }
    let cancel = interruptible()?;
    let content = server.content();
    std::thread::spawn(move || server.serve());
    let mut watch = Watch::default();
    let mut state = json!({});
    while !cancel.requested() {
        let looked = cli.open(&args.selection, registry).and_then(|(study, store)| {
            let made = watch.look(&study, &store, cancel)?;
            Ok((made, watch.state(&study, &store)))
        });
        let made = match looked {
            Ok((made, seen)) => {
                state = seen;
                made
            }
            Err(Failure::Interrupted) => break,
            // Half-edited, say: the page stays, and says so.
            Err(failure) => {
                let why = match &failure {
                    Failure::Coloured(message) | Failure::Input(message) => message,
                    Failure::Task | Failure::Interrupted => "the report failed",
                };
                state["error"] = hide(&calm(why)).into();
                None
            }
        };
        let mut content = content.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((page, files)) = made {
            (content.page, content.files) = (page, files);
        }
        content.state = state.to_string().into();
        drop(content);
        std::thread::sleep(TICK);
    }
    Err(Failure::Interrupted)
}

/// A page and the files it links to.
type Made = (Option<Arc<str>>, Arc<Tree>);

/// What was seen of the cache.
#[derive(Debug, Default)]
struct Watch {
    version: u64,
    /// What the last page shows.
    shown: Option<Digest>,
    /// When another page may be made.
    due: Option<Instant>,
    tasks: usize,
    done: usize,
}

impl Watch {
    /// Makes the page again where there is more to show.
    fn look(&mut self, study: &Study, store: &Store, cancel: &Cancel) -> Result<Option<Made>> {
        let states = Planner::new(study, store).plan();
        self.tasks = states.len();
        self.done = states.iter().filter(|s| matches!(s, State::Hit(_))).count();
        let Ok(partial) = partial::of(study, &states) else { return Ok(None) };
        let seen = seen(&partial, &states);
        if self.shown.as_ref() == Some(&seen) || self.due.is_some_and(|at| Instant::now() < at) {
            return Ok(None);
        }
        let start = Instant::now();
        let summary = gather(&partial, store, cancel, &mut Several::default())?;
        self.due = Some(Instant::now() + start.elapsed() * REST);
        if summary.interrupted {
            return Err(Failure::Interrupted);
        }
        // What failed once fails again until something else is there.
        self.shown = Some(seen);
        if !summary.failed.is_empty() {
            return Err(Failure::Task);
        }
        self.version += 1;
        let runs = store.run_records();
        let behind = Behind {
            keys: &summary.keys,
            computed: &summary.computed,
            run: runs.last(),
            live: Some(self.version),
        };
        let files = partial
            .targets
            .first()
            .and_then(|task| store.tree(summary.artifacts.get(task)?))
            .unwrap_or_default();
        let page = page(&partial, store, &files, behind)?;
        Ok(Some((page, Arc::new(files))))
    }

    /// `live.json`.
    fn state(&self, study: &Study, store: &Store) -> Value {
        let (mut running, mut failed) = (BTreeMap::new(), BTreeMap::new());
        for activity in store.activity() {
            running.extend(activity.running);
            failed.extend(activity.failed);
        }
        json!({ "version": self.version, "name": study.name, "tasks": self.tasks,
            "done": self.done, "running": running, "failed": failed })
    }
}

/// What the report depends on: the artifacts of all that is there, the pipeline's shape with its claims.
fn seen(partial: &Partial, states: &[State]) -> Digest {
    let wanted = wanted(&partial.study, &partial.targets);
    let there: Vec<(TaskId, &Digest)> = states
        .iter()
        .enumerate()
        .filter(|(task, _)| wanted[*task])
        .filter_map(|(task, state)| match state {
            State::Hit(record) => Some((task, &record.artifact)),
            _ => None,
        })
        .collect();
    let all = json!([there, partial.study.summary()]);
    Digest::of(all.to_string().as_bytes())
}

fn page(
    partial: &Partial,
    store: &Store,
    files: &Tree,
    behind: Behind<'_>,
) -> Result<Option<Arc<str>>> {
    let Some(entry) = files.files.get("index.html") else { return Ok(None) };
    let page = provenance::page(entry, &partial.study, store, &partial.targets, behind)?;
    Ok(Some(page.into()))
}
