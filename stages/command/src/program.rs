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
        (Some(run), _) => run.iter().map(|argument| fill(context, argument)).collect(),
        (None, Some(line)) => Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]),
        (None, None) => Err(StageError::new("neither `run` nor `shell` is given")),
    }
}

/// `{output}` and `{input.NAME}` in an argument; other braces stay as they are.
fn fill(context: &Context, argument: &str) -> Result<String, StageError> {
    let mut filled = argument.replace("{output}", text(context.output())?);
    while let Some((before, rest)) = filled.split_once("{input.") {
        let Some((name, after)) = rest.split_once('}') else { break };
        filled = format!("{before}{}{after}", text(context.input(name)?)?);
    }
    Ok(filled)
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
        let variable = input_variable(name);
        if variables.insert(variable.clone(), paths.join("\n").into()).is_some() {
            let what = format!("two inputs would both be ${variable}");
            return Err(StageError::new(what).help("rename one of them under `needs:`"));
        }
    }
    // For checkpoints: what is in it survives when the task is killed, unlike the working folder.
    let keep = context.scratch().join("keep");
    fs::create_dir_all(&keep).or_fail("cannot create", &keep)?;
    variables.insert("DISSIM_SCRATCH".to_owned(), keep.into());
    variables.insert("DISSIM_OUTPUT".to_owned(), context.output().into());
    variables.insert("DISSIM_TASK".to_owned(), context.task().into());
    Ok(variables)
}

/// `DISSIM_INPUT_` and the name in capitals, everything but letters and digits as `_`.
fn input_variable(name: &str) -> String {
    let capital = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("DISSIM_INPUT_{}", name.chars().map(capital).collect::<String>())
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
