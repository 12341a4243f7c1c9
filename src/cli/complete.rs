//! `dissim completions`, and the names that a shell completes: stages, tasks, profiles.

use std::ffi::OsStr;
use std::io;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCompleter, CompletionCandidate};

use super::{Cli, Failure, Result, find_pipeline, print};
use crate::parse::{self, LoadOptions};
use crate::registry::Registry;
use crate::say::obeyed;

/// The variable by which a shell asks this program for completions.
const VARIABLE: &str = "COMPLETE";
/// The most task names that are offered at once.
const MOST: usize = 2000;

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell. The script asks dissim again at every completion, so that tasks are current.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Answers a shell that asks for completions, and ends the process then.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<()> {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(name) else {
        return Err(Failure::Input(format!("error: no completions for {name}\n")));
    };
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "dissim", "dissim", "dissim", &mut script)
        .map_err(|e| Failure::from(io::Error::other(e)))?;
    print(&String::from_utf8_lossy(&script))
}

/// Completes a TARGET: names of stages, and of tasks once more than a stage's name is written.
pub(super) fn targets() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let current = current.to_string_lossy();
        let Ok(file) = find_pipeline() else { return Vec::new() };
        let Ok(study) = parse::load(&file, &LoadOptions::default(), &Registry::builtin()) else {
            return Vec::new();
        };
        let stages = study.stages.iter().map(|stage| stage.name.clone());
        let tasks = study.tasks.iter().map(|task| task.name.clone());
        // A shell shows what it is offered: a name that a terminal would obey is not.
        let fits = |name: &String| name.starts_with(&*current) && !name.contains(obeyed);
        let mut names: Vec<String> = stages.chain(tasks).filter(fits).take(MOST).collect();
        names.dedup();
        names.into_iter().map(CompletionCandidate::new).collect()
    })
}

/// Completes the name of a profile.
pub(super) fn profiles() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let names = find_pipeline().map(|file| parse::profiles(&file)).unwrap_or_default();
        let current = current.to_string_lossy();
        let fits = |name: &String| name.starts_with(&*current) && !name.contains(obeyed);
        names.into_iter().filter(fits).map(CompletionCandidate::new).collect()
    })
}
