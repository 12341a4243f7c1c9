//! Slurm's own commands: sbatch, squeue, sacct, scontrol, scancel, as they are found in PATH.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use super::state::{JobId, Standing, of_sacct, of_scontrol, of_squeue};

/// Why a command brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// Slurm does not answer; it may later.
    Silent(String),
    /// It answered, and refused.
    Refused(String),
}

/// What the commands print when the daemon behind them is away or busy.
const SILENT: [&str; 8] = [
    "Unable to contact slurm controller",
    "Connection refused",
    "Connection timed out",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Resource temporarily unavailable",
    "Transport endpoint is not connected",
    "temporarily unable to accept job",
];

fn run(name: &str, arguments: &[String]) -> Result<String, Why> {
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output().map_err(|e| {
        let help = "is this machine one that submits jobs?";
        Why::Refused(format!("cannot start `{name}`: {e}; {help}"))
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let text = format!("`{name}` failed: {}", lines.join("; "));
    let silent = SILENT.iter().any(|part| text.contains(part));
    Err(if silent { Why::Silent(text) } else { Why::Refused(text) })
}

fn words(fixed: &[&str]) -> Vec<String> {
    fixed.iter().map(|word| (*word).to_owned()).collect()
}

/// Array job ids, each once, as the commands take a list.
fn listed(ids: &[JobId]) -> String {
    let mut arrays: Vec<u64> = ids.iter().map(|id| id.array).collect();
    arrays.sort_unstable();
    arrays.dedup();
    arrays.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

/// Submits a script; the id of the array.
pub(super) fn submit(mut arguments: Vec<String>, script: &Path) -> Result<u64, Why> {
    arguments.push(script.to_string_lossy().into_owned());
    let text = run("sbatch", &arguments)?;
    // `12`, or `12;cluster`.
    let id = text.trim().split(';').next().unwrap_or_default();
    id.parse()
        .map_err(|_| Why::Refused(format!("`sbatch` said `{}`, which is no job", text.trim())))
}

/// The array whose jobs have that comment, among this user's that wait or run.
pub(super) fn find(comment: &str) -> Result<Option<u64>, Why> {
    let text = run("squeue", &words(&["--noheader", "--me", "--format=%F|%k"]))?;
    let line = |line: &str| {
        let (id, of) = line.trim().split_once('|')?;
        (of == comment).then(|| id.parse().ok())?
    };
    Ok(text.lines().find_map(line))
}

/// Jobs that wait or run. One that is not in it has ended, or was never there.
pub(super) fn queue(ids: &[JobId]) -> Result<HashMap<JobId, Standing>, Why> {
    let mut arguments = words(&["--noheader", "--array", "--format=%i|%T|%N"]);
    arguments.push(format!("--jobs={}", listed(ids)));
    match run("squeue", &arguments) {
        Ok(text) => Ok(of_squeue(&text)),
        Err(Why::Refused(text)) if text.contains("Invalid job id") => Ok(HashMap::new()),
        Err(why) => Err(why),
    }
}

/// How jobs ended, as far as accounting or the controller remembers.
pub(super) fn past(ids: &[JobId]) -> HashMap<JobId, Standing> {
    let mut arguments = words(&[
        "--noheader",
        "--parsable2",
        "--allocations",
        "--format=JobID,State,NodeList,ExitCode",
    ]);
    arguments.push(format!("--jobs={}", listed(ids)));
    let mut found = run("sacct", &arguments).map(|text| of_sacct(&text)).unwrap_or_default();
    let unknown: Vec<JobId> = ids.iter().filter(|id| !found.contains_key(id)).copied().collect();
    // Where there is no accounting, or it lags behind.
    for array in listed(&unknown).split(',').filter(|array| !array.is_empty()) {
        let shown = run("scontrol", &words(&["--oneliner", "show", "job", array]));
        found.extend(shown.map(|text| of_scontrol(&text)).unwrap_or_default());
    }
    found
}

/// Ends jobs.
pub(super) fn cancel(ids: &[JobId]) -> Result<(), Why> {
    // A command line has its limits.
    for ids in ids.chunks(500) {
        run("scancel", &ids.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    }
    Ok(())
}
