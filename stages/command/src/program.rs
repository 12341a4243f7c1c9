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

/// Runs the program in `work` to its end, what it prints going to the task's log.
///
/// # Errors
/// When it cannot be started, or ends with anything but exit code 0.
pub(crate) fn run(
    context: &Context,
    params: &CommandParams,
    work: &Path,
) -> Result<(), StageError> {
    let argv = arguments(context, params)?;
    let (program, arguments) = argv.split_first().ok_or_else(|| StageError::new("no program"))?;
    // A path with a slash is one in the working folder; a bare name is looked up in PATH.
    let found = if program.contains('/') { work.join(program) } else { program.into() };
    let status = Command::new(&found)
        .args(arguments)
        .current_dir(work)
        .env_clear()
        .envs(environment(context, params)?)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .stderr(Stdio::inherit())
        .status()
        .map_err(|e| not_started(program, &e))?;
    if status.success() { Ok(()) } else { Err(failed(program, status)) }
}

/// The program and its arguments with the placeholders filled in; or the shell and its line.
fn arguments(context: &Context, params: &CommandParams) -> Result<Vec<String>, StageError> {
    match (&params.run, &params.shell) {
        (Some(run), _) => run.iter().map(|argument| fill(context, params, argument)).collect(),
        (None, Some(line)) => Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]),
        (None, None) => Err(StageError::new("neither `run` nor `shell` is given")),
    }
}

/// `{output}`, `{input.NAME}` and `{matrix.AXIS}` in an argument; other braces stay as they are,
/// and what was filled in is not looked at again.
fn fill(context: &Context, params: &CommandParams, argument: &str) -> Result<String, StageError> {
    let (mut filled, mut rest) = (String::new(), argument);
    while let Some((before, after)) = rest.split_once('{') {
        filled += before;
        let placeholder =
            after.split_once('}').map(|(name, after)| (name.split_once('.'), name, after));
        let value = match placeholder {
            Some((None, "output", _)) => Some(text(context.output())?.to_owned()),
            Some((Some(("input", name)), ..)) => Some(text(context.input(name)?)?.to_owned()),
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

/// PATH, HOME, what is passed on, what is set, and where inputs and output are.
fn environment(
    context: &Context,
    params: &CommandParams,
) -> Result<BTreeMap<String, std::ffi::OsString>, StageError> {
    let passed = ["PATH", "HOME"].into_iter().chain(params.pass_env.iter().map(String::as_str));
    let mut variables: BTreeMap<_, _> =
        passed.filter_map(|name| Some((name.to_owned(), env::var_os(name)?))).collect();
    variables.extend(params.env.iter().map(|(name, value)| (name.clone(), value.into())));
    for name in context.input_names() {
        let paths: Vec<&str> =
            context.inputs(name).iter().map(|a| text(&a.path)).collect::<Result<_, _>>()?;
        let variable = variable("DISSIM_INPUT_", name);
        if variables.insert(variable.clone(), paths.join("\n").into()).is_some() {
            let what = format!("two inputs would both be ${variable}");
            return Err(StageError::new(what).help("rename one of them under `needs:`"));
        }
    }
    for (axis, value) in &params.matrix {
        variables.insert(variable("DISSIM_MATRIX_", axis), plain(value).into());
    }
    // For checkpoints: what is in it survives when the task is killed, unlike the working folder.
    let keep = context.scratch().join("keep");
    fs::create_dir_all(&keep).or_fail("cannot create", &keep)?;
    variables.insert("DISSIM_SCRATCH".to_owned(), keep.into());
    variables.insert("DISSIM_OUTPUT".to_owned(), context.output().into());
    variables.insert("DISSIM_TASK".to_owned(), context.task().into());
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

fn not_started(program: &str, error: &std::io::Error) -> StageError {
    let what = format!("cannot start `{program}`: {error}");
    StageError::new(what).help(match error.kind() {
        ErrorKind::NotFound if program.contains('/') => {
            "a path in `run` is relative to the working folder: name the file under `code:` too"
        }
        ErrorKind::NotFound => "install it, or check PATH and the first entry of `run`",
        ErrorKind::PermissionDenied => "make the file executable, or run it by its interpreter",
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
