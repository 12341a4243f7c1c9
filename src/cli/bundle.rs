//! `dissim export` and `dissim import`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use dissim_api::files;

use super::units::bytes;
use super::{Cli, Failure, Result, Selection, print, target};
use crate::plan::{Planner, State};
use crate::registry::Registry;
use crate::store::Store;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The file to write.
    bundle: PathBuf,
    /// Stages, tasks or globs of task names, with what they need; all by default.
    #[arg(add = super::complete::targets())]
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// A file that `dissim export` wrote.
    bundle: PathBuf,
    /// The project's folder; where it has no pipeline.yaml, the bundle's is put there.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    into: PathBuf,
}

pub(super) fn export(cli: &Cli, args: &ExportArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    let wanted = target::with_needs(&study, &target::select(&study, &args.targets)?);
    let states = Planner::new(&study, &store).plan();
    let (mut records, mut missing) = (Vec::new(), Vec::new());
    for (task, state) in states.into_iter().enumerate().filter(|(t, _)| wanted.contains(t)) {
        match state {
            State::Hit(record) => records.push(*record),
            _ => missing.push(study.tasks[task].name.clone()),
        }
    }
    if let Some(first) = missing.first() {
        let what = format!(
            "error: {} of {} tasks are not in the cache, `{first}` for one\n  help: dissim run, and export then\n",
            missing.len(),
            wanted.len()
        );
        return Err(Failure::Input(what));
    }
    let name = study.file.file_name().map_or_else(|| "pipeline.yaml".into(), PathBuf::from);
    let mut project = BTreeMap::from([(name.clone(), study.root.join(&name))]);
    for pattern in wanted.iter().flat_map(|&task| study.tasks[task].project_files()) {
        let found = files::expand(&study.root, pattern)
            .map_err(|e| Failure::Input(format!("error: {e}\n")))?;
        project.extend(found.into_iter().map(|file| (file.clone(), study.root.join(file))));
    }
    store.export(&study.name, &records, &project, &args.bundle)?;
    let size = std::fs::metadata(&args.bundle)?.len();
    print(&format!(
        "{} tasks and {} project files in {}, {}\n",
        records.len(),
        project.len(),
        args.bundle.display(),
        bytes(size)
    ))
}

pub(super) fn import(args: &ImportArgs) -> Result<()> {
    // Before a folder is made for it: is there such a file?
    std::fs::metadata(&args.bundle)
        .map_err(|e| Failure::Input(format!("error: {}: {e}\n", args.bundle.display())))?;
    std::fs::create_dir_all(&args.into)?;
    let store = Store::open(&args.into.join("cache"))?;
    let _in_use = store.lock_for_use()?;
    let imported = store.import(&args.bundle, &args.into)?;
    let mut text = String::new();
    for file in &imported.files {
        text += &format!("wrote {}\n", file.display());
    }
    for file in &imported.kept {
        text += &format!("kept yours, the bundle's differs: {}\n", file.display());
    }
    text += &format!(
        "{} tasks imported, {} were there already; {} new files in the store\n",
        imported.tasks, imported.known, imported.blobs
    );
    print(&text)
}
