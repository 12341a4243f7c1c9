//! A runner with a stage kind of its own, built from the library.
//!
//! `cargo run --release --example own_stage` makes a project in a temporary folder, runs it twice,
//! and prints what was computed and what was a hit.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use dissim::execute::{self, Cancel, Logs, OnFailure, Plain, RunOptions};
use dissim::parse::{self, LoadOptions};
use dissim::policy::Resources;
use dissim::registry::Registry;
use dissim::store::Store;

const PIPELINE: &str = "
version: 1
name: letters
stages:
  count:
    kind: letters
    matrix: { letter: [a, b, c] }
    with: { text: poem.txt, any_case: true }
";

fn main() -> Result<(), Box<dyn Error>> {
    // The one line that a new kind takes: here, or in src/registry.rs for everybody.
    let registry = Registry::builtin().with(Arc::new(dissim_letters::Letters));

    // Every task runs in a process of its own: this very program, started as `own_stage task SPEC`.
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, spec] = arguments.as_slice()
        && command == "task"
    {
        let done = execute::serve_task(Path::new(spec), &registry);
        std::process::exit(i32::from(!done));
    }

    let project = tempfile::tempdir()?;
    std::fs::write(project.path().join("pipeline.yaml"), PIPELINE)?;
    std::fs::write(project.path().join("poem.txt"), "A bee, a cab, a bad cab\n")?;
    for round in ["first", "second"] {
        let file = project.path().join("pipeline.yaml");
        let study = parse::load(&file, &LoadOptions::default(), &registry)?;
        let store = Store::open(&study.root.join("cache"))?;
        let options = RunOptions {
            targets: (0..study.tasks.len()).collect(),
            machine: Resources { cpus: 2, memory: u64::MAX },
            on_failure: OnFailure::Stop,
            logs: Logs::OfFailures,
            remote: None,
            cluster: None,
            program: std::env::current_exe()?,
        };
        let summary =
            execute::run(&study, &store, &options, &Cancel::default(), &mut Plain::default())?;
        println!("{round} run: {} ran, {} cached", summary.ran, summary.cached);
        for (task, artifact) in &summary.artifacts {
            let tree = store.tree(artifact).ok_or("the artifact is in the store")?;
            let blob = store.object(&tree.files["count.txt"].digest);
            println!("  {}: {}", study.tasks[*task].name, std::fs::read_to_string(blob)?.trim());
        }
    }
    Ok(())
}
