//! The command line: one file a command.

mod audit;
mod bundle;
mod cache;
mod claims;
mod complete;
mod diff;
mod diff_runs;
mod graph;
mod plan;
mod query;
mod remote;
mod report;
mod run;
mod runs;
mod schema;
mod serve;
mod show;
mod standing;
mod status;
mod target;
mod unchanged;
mod units;
mod watch;
mod why;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::execute::{self, Cancel};
use crate::graph::Study;
use crate::parse::{self, LoadOptions};
use crate::registry::Registry;
use crate::say::{self, quoted};
use crate::secret::mask_setting;
use crate::store::Store;

/// Declarative, cached machine-learning studies: edit pipeline.yaml, rerun, and only what the edit
/// touches is computed again.
#[derive(Debug, Parser)]
#[command(name = "dissim", version)]
struct Cli {
    /// The pipeline; by default pipeline.yaml here or in the nearest folder above.
    #[arg(long, global = true, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command that reads the pipeline.
#[derive(Debug, Clone, Args)]
struct Selection {
    /// The profile, in place of default_profile.
    #[arg(long, value_name = "NAME", add = complete::profiles())]
    profile: Option<String>,
    /// Sets a parameter, or any value by its path: seeds=5, stages.train.with.epochs=3.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl Selection {
    /// As it is typed, with the profile by name where it is the default one, and with secrets masked.
    fn in_words(&self, study: &Study) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._=/-+:,".contains(c);
        let word = |word: &str| {
            let bare = !word.is_empty() && word.chars().all(plain);
            if bare { word.to_owned() } else { quoted(word) }
        };
        let profile = study.profile.iter().map(|name| format!("--profile {}", word(name)));
        let set = self.set.iter().map(|value| format!("--set {}", word(&mask_setting(value))));
        profile.chain(set).collect::<Vec<_>>().join(" ")
    }

    /// The same behind a command, with the space between.
    fn behind(&self, study: &Study) -> String {
        let words = self.in_words(study);
        if words.is_empty() { words } else { format!(" {words}") }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs what is not in the cache: all of it, or TARGETs and what they need.
    Run(run::RunArgs),
    /// The runs that were recorded; `dissim show RUN` has more.
    Runs(runs::RunsArgs),
    /// Hits, misses and failures, stage by stage.
    Status(status::StatusArgs),
    /// What would run, and how long it will take by what it took before.
    Plan(plan::PlanArgs),
    /// What makes a task stale: the parameter, file, code or upstream task, old -> new.
    Why(why::WhyArgs),
    /// Parameters, inputs, outputs, metrics and provenance of a task.
    Show(show::ShowArgs),
    /// The kept log of a task.
    Log(show::LogArgs),
    /// The pipeline as mermaid or dot.
    Graph(graph::GraphArgs),
    /// Figures, tables, verdicts and index.html from what is cached; trains nothing.
    Report(report::ReportArgs),
    /// The report as a live page on this machine, while a run goes on.
    Serve(serve::ServeArgs),
    /// What the runs say of the study's claims: verdict, effect, interval, corrected p.
    Claims(claims::ClaimsArgs),
    /// Two tasks, or two runs, side by side: parameters, inputs, outputs, metrics.
    Diff(diff::DiffArgs),
    /// SQL over results, tasks and runs; --tables lists what there is.
    Query(query::QueryArgs),
    /// Runs cached tasks again and compares what comes out, byte for byte; exit code 1 where any
    /// differs.
    Audit(audit::AuditArgs),
    /// Writes the study and what is cached for it to one file.
    Export(bundle::ExportArgs),
    /// Takes in what `export` wrote: its tasks are hits then.
    Import(bundle::ImportArgs),
    /// A script that makes a shell complete commands, options and task names.
    Completions(complete::CompletionsArgs),
    /// JSON Schema of pipeline.yaml, for editors.
    Schema(schema::SchemaArgs),
    /// Looks after the store: verify, gc, stat; shares it: push, pull, key.
    Cache(cache::CacheArgs),
    /// Prints the blake3 of FILE, which is mapped; what hashes large files.
    #[command(hide = true)]
    Hash {
        /// The file.
        file: PathBuf,
    },
    /// Runs the task that is laid out in FOLDER and leaves there how it ended; what a job of a
    /// cluster does.
    #[command(hide = true)]
    Job {
        /// The folder.
        folder: PathBuf,
    },
    /// Runs one task from its spec; what the runner starts for every miss.
    #[command(hide = true)]
    Task {
        /// The spec.
        spec: PathBuf,
    },
}

/// Why a command did not succeed.
#[derive(Debug)]
enum Failure {
    /// A task failed; it was said already.
    Task,
    /// The input is wrong: this is what to tell.
    Input(String),
    /// The same, with colours of our own where they are shown.
    Coloured(String),
    /// A signal ended it; it was said already.
    Interrupted,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // Who reads a pipe may stop when they have seen enough.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Interrupted;
        }
        Self::Input(format!("error: {error}\n"))
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// What Ctrl-C asks to stop, from now on.
fn interruptible() -> Result<&'static Cancel> {
    // The handler lives as long as the process.
    let cancel: &'static Cancel = Box::leak(Box::default());
    execute::cancel_on_signals(cancel)
        .map_err(|e| Failure::Input(format!("error: cannot listen for Ctrl-C: {e}\n")))?;
    Ok(cancel)
}

/// Runs the command line; the exit code is 0 on success, 1 when a task failed, 2 when the input is
/// wrong, 130 when interrupted.
#[must_use]
pub fn main() -> ExitCode {
    complete::answer();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    if let Ok(program) = std::env::current_exe() {
        crate::store::hash_in(program);
    }
    let registry = Registry::builtin();
    let result = match &cli.command {
        Command::Task { spec } => {
            let done = execute::serve_task(spec, &registry);
            return if done { ExitCode::SUCCESS } else { ExitCode::from(1) };
        }
        Command::Job { folder } => return run::job(folder),
        Command::Hash { file } => {
            crate::store::mapped(file).map_err(Failure::from).and_then(|d| print(&format!("{d}\n")))
        }
        Command::Run(args) => run::run(&cli, args, &registry),
        Command::Runs(args) => runs::runs(&cli, args, &registry),
        Command::Status(args) => status::status(&cli, args, &registry),
        Command::Why(args) => why::why(&cli, args, &registry),
        Command::Show(args) => show::show(&cli, args, &registry),
        Command::Log(args) => show::log(&cli, args, &registry),
        Command::Report(args) => report::report(&cli, args, &registry),
        Command::Serve(args) => serve::serve(&cli, args, &registry),
        Command::Claims(args) => claims::claims(&cli, args, &registry),
        Command::Plan(args) => plan::plan(&cli, args, &registry),
        Command::Diff(args) => diff::diff(&cli, args, &registry),
        Command::Query(args) => query::query(&cli, args, &registry),
        Command::Audit(args) => audit::audit(&cli, args, &registry),
        Command::Export(args) => bundle::export(&cli, args, &registry),
        Command::Import(args) => bundle::import(args),
        Command::Completions(args) => complete::completions(args),
        Command::Schema(args) => schema::schema(args, &registry),
        Command::Cache(args) => cache::cache(&cli, args, &registry),
        Command::Graph(args) => graph::graph(&cli, args, &registry),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Task) => ExitCode::from(1),
        Err(Failure::Interrupted) => ExitCode::from(130),
        Err(Failure::Input(message)) => {
            say::message(&message);
            ExitCode::from(2)
        }
        Err(Failure::Coloured(message)) => {
            say::coloured_message(&message);
            ExitCode::from(2)
        }
    }
}

/// Says what clap found: wrong arguments, or the help that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render();
    let (ansi, plain) = (text.ansi().to_string(), text.to_string());
    if error.use_stderr() {
        say::coloured_message(if say::stderr_has_colour() { &ansi } else { &plain });
    } else {
        // A reader of a pipe may stop when they have seen enough.
        let _ = say::coloured_out(if say::stdout_has_colour() { &ansi } else { &plain });
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

impl Cli {
    /// The pipeline's file: the one that was named, or the nearest.
    fn pipeline(&self) -> Result<PathBuf> {
        self.file.clone().map_or_else(find_pipeline, Ok)
    }

    /// Loads the pipeline.
    fn load(&self, selection: &Selection, registry: &Registry) -> Result<Study> {
        let file = self.pipeline()?;
        let options =
            LoadOptions { profile: selection.profile.clone(), set: selection.set.clone() };
        parse::load(&file, &options, registry)
            .map_err(|errors| Failure::Coloured(errors.render(say::stderr_has_colour())))
    }

    /// Loads the pipeline and opens its store.
    fn open(&self, selection: &Selection, registry: &Registry) -> Result<(Study, Store)> {
        let study = self.load(selection, registry)?;
        let store = Store::open(&study.root.join("cache"))?;
        Ok((study, store))
    }
}

/// pipeline.yaml in this folder or the nearest above.
fn find_pipeline() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let found = here.ancestors().map(|d| d.join("pipeline.yaml")).find(|f| f.is_file());
    let Some(found) = found else {
        return Err(Failure::Input(format!(
            "error: no pipeline.yaml in {} or above it\n  help: go to your study's folder, or name the file with --file\n",
            here.display()
        )));
    };
    // A file in this folder is shown by its name alone.
    let short = found.strip_prefix(&here).map(PathBuf::from);
    Ok(short.unwrap_or(found))
}

/// Writes a result to stdout.
fn print(text: &str) -> Result<()> {
    Ok(say::out(text)?)
}

/// Writes a result to stdout as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    Ok(say::json_out(&serde_json::to_string_pretty(value).map_err(io::Error::from)?)?)
}
