//! Starting the program: its arguments, its environment, and how it ended.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use dissim_api::{Context, IoContext, StageError};

use crate::params::CommandParams;
use crate::work_folder::WorkFolder;
use crate::{SCRATCH, kept};

/// Runs the program in `work` to its end, what it prints going to the task's log. What it started and left
/// running, in a session of its own or not, has ended too when this returns.
///
/// # Errors
/// Returns an error if the program cannot be started, or ends with anything but exit code 0.
pub(crate) fn run(
    context: &Context,
    params: &CommandParams,
    work: &WorkFolder,
) -> Result<(), StageError> {
    let argv = arguments(context, params, work)?;
    let (program, arguments) = argv.split_first().ok_or_else(|| StageError::new("no program"))?;
    // A path with a slash is one in the working folder; a bare name is looked up in PATH.
    let found = if program.contains('/') { work.path().join(program) } else { program.into() };
    let status = Command::new(&found)
        .args(arguments)
        .current_dir(work.path())
        .env_clear()
        .envs(environment(context, params, work)?)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .stderr(Stdio::inherit())
        .status();
    context.end_processes();
    let status = status.map_err(|e| not_started(program, &found, &e))?;
    let shown = if params.shell.is_some() { "shell" } else { program };
    if status.success() { Ok(()) } else { Err(failed(shown, status)) }
}

/// The program and its arguments with the placeholders filled in; or the shell and its line.
fn arguments(
    context: &Context,
    params: &CommandParams,
    work: &WorkFolder,
) -> Result<Vec<String>, StageError> {
    match (&params.run, &params.shell) {
        (Some(run), _) => run.iter().map(|part| fill(context, params, work, part)).collect(),
        (None, Some(line)) => Ok(shell(line)),
        (None, None) => Err(StageError::new("neither `run` nor `shell` is given")),
    }
}

/// A line for a shell in which any command that fails ends the line: bash, which also sees a failure before a `|`;
/// the system's shell where there is no bash.
fn shell(line: &str) -> Vec<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let bash = env::split_paths(&path).any(|folder| folder.join("bash").is_file());
    let words: &[&str] =
        if bash { &["bash", "-e", "-o", "pipefail", "-c"] } else { &["/bin/sh", "-e", "-c"] };
    words.iter().copied().chain([line]).map(str::to_owned).collect()
}

/// `{output}`, `{input.NAME}` and `{matrix.AXIS}` in an argument; other braces stay as they are,
/// and what was filled in is not looked at again.
fn fill(
    context: &Context,
    params: &CommandParams,
    work: &WorkFolder,
    argument: &str,
) -> Result<String, StageError> {
    let (mut filled, mut rest) = (String::new(), argument);
    while let Some((before, after)) = rest.split_once('{') {
        filled += before;
        let placeholder =
            after.split_once('}').map(|(name, after)| (name.split_once('.'), name, after));
        let value = match placeholder {
            Some((None, "output", _)) => Some(text(work.path())?.to_owned()),
            Some((Some(("input", name)), ..)) => Some(input(context, work, name)?),
            Some((Some(("matrix", axis)), ..)) => Some(axis_value(params, axis)?),
            _ => None,
        };
        match (value, placeholder) {
            (Some(value), Some((.., after))) => {
                filled += &value;
                rest = after;
            }
            _ => {
                filled.push('{');
                rest = after;
            }
        }
    }
    Ok(filled + rest)
}

/// Where the artifact of an input is, or the folder of all of them.
fn input(context: &Context, work: &WorkFolder, name: &str) -> Result<String, StageError> {
    if !context.input_names().any(|known| known == name) {
        let what = format!("the stage has no input `{name}`");
        return Err(StageError::new(what).help(format!("add `needs: {{ {name}: .. }}`")));
    }
    Ok(text(&work.input(name))?.to_owned())
}

fn axis_value(params: &CommandParams, axis: &str) -> Result<String, StageError> {
    params.matrix.get(axis).map(plain).ok_or_else(|| {
        let known: Vec<_> = params.matrix.keys().map(String::as_str).collect();
        let help = match known.as_slice() {
            [] => "give the stage a `matrix:` with that axis".to_owned(),
            known => format!("its axes are {}", known.join(", ")),
        };
        StageError::new(format!("the stage has no axis `{axis}` of its own")).help(help)
    })
}

/// A value for a program: text as it is, anything else as JSON.
fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// PATH, HOME, what is passed on, what is set, and where inputs and outputs are.
fn environment(
    context: &Context,
    params: &CommandParams,
    work: &WorkFolder,
) -> Result<BTreeMap<String, std::ffi::OsString>, StageError> {
    let passed = ["PATH", "HOME"].into_iter().chain(params.pass_env.iter().map(String::as_str));
    let mut variables: BTreeMap<_, _> =
        passed.filter_map(|name| Some((name.to_owned(), env::var_os(name)?))).collect();
    variables.extend(params.env.iter().map(|(name, value)| (name.clone(), value.into())));
    for name in context.input_names() {
        let variable = variable("DISSIM_INPUT_", name);
        if variables.insert(variable.clone(), work.input(name).into()).is_some() {
            let what = format!("two inputs would both be ${variable}");
            return Err(StageError::new(what).help("rename one of them under `needs:`"));
        }
    }
    for (axis, value) in &params.matrix {
        variables.insert(variable("DISSIM_MATRIX_", axis), plain(value).into());
    }
    // For checkpoints: what is in it survives when the task is killed, unlike the working folder.
    let keep = kept(context.scratch());
    fs::create_dir_all(&keep).or_fail("cannot create", &keep)?;
    variables.insert(SCRATCH.to_owned(), keep.into());
    variables.insert("DISSIM_OUTPUT".to_owned(), work.path().into());
    Ok(variables)
}

/// The prefix and the name in capitals, everything but letters and digits as `_`.
fn variable(prefix: &str, name: &str) -> String {
    let capital = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{prefix}{}", name.chars().map(capital).collect::<String>())
}

fn text(path: &Path) -> Result<&str, StageError> {
    path.to_str().ok_or_else(|| StageError::new("the path is not UTF-8").at(path))
}

fn not_started(program: &str, found: &Path, error: &std::io::Error) -> StageError {
    let what = format!("cannot start `{program}`: {error}");
    StageError::new(what).help(match error.kind() {
        ErrorKind::NotFound if program.contains('/') && found.exists() => {
            "the file is there, but not the interpreter that its first line names: check that line, and \
             the file for Windows line ends"
        }
        ErrorKind::NotFound if program.contains('/') => {
            "a path in `run` is relative to the working folder: name the file under `code:` too"
        }
        ErrorKind::NotFound => "install it, or check PATH and the first entry of `run`",
        ErrorKind::PermissionDenied => "make the file executable, or run it by its interpreter",
        ErrorKind::ArgumentListTooLong => {
            "an argument or a variable is longer than the system allows: put it into a file, and name \
             the file under `code:` or `inputs:`"
        }
        _ => "check the first entry of `run`",
    })
}

fn failed(program: &str, status: ExitStatus) -> StageError {
    let what = match (status.code(), status.signal()) {
        (Some(code), _) => format!("`{program}` ended with exit code {code}"),
        (None, Some(signal)) => format!("`{program}` was ended by signal {signal}"),
        (None, None) => format!("`{program}` ended: {status}"),
    };
    StageError::new(what).help("what it printed is in the task's log: dissim log <task>")
}
