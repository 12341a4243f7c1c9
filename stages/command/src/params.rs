//! The parameters of a command: the program, what it reads and what it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use dissim_api::{ParamError, Params, Placeholder, PlaceholderTarget};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most bytes that Linux passes to a program in one argument or variable, with the zero at its end.
const MAX_ARGUMENT_BYTES: usize = 131_072;

/// `with:` of a `command` stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandParams {
    /// The program and its arguments, as they are: no shell reads them. In an argument, `{output}` becomes the
    /// working folder, `{input.NAME}` the folder of the artifact (or of all artifacts that the input gathers), and
    /// `{matrix.AXIS}` the value of the axis. A number stays as it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Vec<String>>,
    /// Or lines for `bash -e -o pipefail`: the first command that fails, also before a `|`, ends them, and the task
    /// fails. Where there is no bash, `/bin/sh -e` runs them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// What the program must leave, files or folders, relative to its working folder (`$DISSIM_OUTPUT`). Links
    /// within them are kept, and so are empty folders. What the program leaves beside them is not kept.
    pub outputs: BTreeSet<String>,
    /// Project files, folders or globs that the program reads. It gets read-only copies in its working folder; files
    /// over 8 MB, or over 256 MB together, are links.
    #[serde(default)]
    pub inputs: BTreeSet<String>,
    /// Project files, folders or globs that the program is made of, copied into its working folder. A run copies
    /// them once, when it begins: edits made later count from the next run.
    #[serde(default)]
    pub code: BTreeSet<String>,
    /// Environment variables that are part of the task: a change of value is a change of task. A number stays
    /// as it is written.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The stage's own axes, filled in from `matrix:` and `sweeps:`; for the program,
    /// `{matrix.AXIS}` in an argument and `$DISSIM_MATRIX_<AXIS>`. A number that JSON would write otherwise, such
    /// as `3.10` or `1e-3`, is text as it is written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, serde_json::Value>,
    /// Names of environment variables that are handed on but are not part of the task: the way for secrets. Nothing
    /// else is handed on, beside PATH and HOME.
    #[serde(default)]
    pub pass_env: BTreeSet<String>,
}

/// Completes and checks what the user wrote.
pub(crate) fn resolve(given: &Params) -> Result<Params, Vec<ParamError>> {
    let (params, map) = dissim_api::resolve::<CommandParams>(given)?;
    let errors = errors(&params);
    if errors.is_empty() { Ok(map) } else { Err(errors) }
}

fn errors(params: &CommandParams) -> Vec<ParamError> {
    let mut errors = Vec::new();
    match (&params.run, &params.shell) {
        (None, None) => {
            let message = "nothing to run: write `run: [program, argument, ..]` or `shell: \"..\"`";
            errors.push(ParamError { name: None, message: message.to_owned() });
        }
        (Some(_), Some(_)) => {
            errors.push(ParamError::new("shell", "`run` and `shell` exclude each other"));
        }
        (Some(run), None) if run.first().is_none_or(String::is_empty) => {
            errors.push(ParamError::new("run", "`run` names no program"));
        }
        (None, Some(shell)) if shell.trim().is_empty() => {
            errors.push(ParamError::new("shell", "`shell` is empty"));
        }
        _ => {}
    }
    if params.outputs.is_empty() {
        let message = "`outputs` is empty: name at least one file that the program leaves";
        errors.push(ParamError::new("outputs", message));
    }
    let paths = [("outputs", &params.outputs), ("inputs", &params.inputs), ("code", &params.code)];
    for (name, list) in paths {
        for path in list.iter().filter(|p| !stays_inside(p)) {
            let message = format!("`{path}` in `{name}` must be relative and stay in its folder");
            errors.push(ParamError::new(name, message));
        }
    }
    errors.extend(nested_outputs(&params.outputs));
    errors.extend(variable_errors(params));
    errors.extend(argument_errors(params));
    errors
}

/// The inputs and axes that the arguments under `run` mention.
pub(crate) fn placeholders(parameter: &str, value: &Value) -> Vec<Placeholder> {
    let mut found = Vec::new();
    if parameter != "run" {
        return found;
    }
    for (at, argument) in value.as_array().into_iter().flatten().enumerate() {
        let mut rest = argument.as_str().unwrap_or_default();
        while let Some((_, after)) = rest.split_once('{') {
            rest = after;
            let Some((placeholder, _)) = after.split_once('}') else { break };
            let target = match placeholder.split_once('.') {
                Some(("input", name)) => Some((PlaceholderTarget::Input, name)),
                Some(("matrix", name)) => Some((PlaceholderTarget::Axis, name)),
                _ => None,
            };
            if let Some((target, name)) = target {
                found.push(Placeholder { path: format!("[{at}]"), target, name: name.to_owned() });
            }
        }
    }
    found
}

/// What one argument or variable cannot hold: too many bytes, or a zero byte.
fn argument_errors(params: &CommandParams) -> Vec<ParamError> {
    let mut errors = Vec::new();
    let mut check = |path: String, of: &str, around: usize, text: &str| {
        let length = around + text.len();
        if length >= MAX_ARGUMENT_BYTES {
            let message = format!(
                "{of} has {length} bytes, and Linux passes at most {} to a program: put it into a file under `code` or `inputs`",
                MAX_ARGUMENT_BYTES - 1
            );
            errors.push(ParamError::new(path, message));
        } else if text.contains('\0') {
            let message = format!("{of} has a zero byte, which cannot be passed to a program");
            errors.push(ParamError::new(path, message));
        }
    };
    for (at, argument) in params.run.iter().flatten().enumerate() {
        check(format!("run[{at}]"), "the argument", 0, argument);
    }
    if let Some(shell) = &params.shell {
        check("shell".to_owned(), "`shell`", 0, shell);
    }
    for (name, value) in &params.env {
        check(format!("env.{name}"), &format!("variable `{name}`"), name.len() + 1, value);
    }
    for (axis, value) in &params.matrix {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let around = "DISSIM_MATRIX_=".len() + axis.len();
        check(axis.clone(), &format!("axis `{axis}`"), around, &text);
    }
    errors
}

/// Relative, without `..`, and not the folder itself.
fn stays_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    parts.clone().any(|p| matches!(p, Component::Normal(_)))
        && parts.all(|p| matches!(p, Component::Normal(_) | Component::CurDir))
}

/// An output inside another would be moved twice.
fn nested_outputs(outputs: &BTreeSet<String>) -> Vec<ParamError> {
    let inside = |a: &str, b: &str| a != b && Path::new(a).starts_with(Path::new(b));
    let mut errors = Vec::new();
    for a in outputs {
        for b in outputs.iter().filter(|b| inside(a, b)) {
            errors.push(ParamError::new("outputs", format!("`{a}` is inside `{b}`; name one")));
        }
    }
    errors
}

fn variable_errors(params: &CommandParams) -> Vec<ParamError> {
    let bad = |name: &str| name.is_empty() || name.contains(['=', '\0']);
    let mut errors = Vec::new();
    for (parameter, name) in params
        .env
        .keys()
        .map(|name| ("env", name))
        .chain(params.pass_env.iter().map(|name| ("pass_env", name)))
    {
        if bad(name) {
            let message = format!("`{name}` is no name of an environment variable");
            errors.push(ParamError::new(parameter, message));
        } else if name.starts_with("DISSIM_") {
            let message = format!("`{name}`: names that start with DISSIM_ are the runner's");
            errors.push(ParamError::new(parameter, message));
        }
    }
    for name in params.pass_env.iter().filter(|name| params.env.contains_key(*name)) {
        let message = format!("`{name}` is in `env` and in `pass_env`; name it in one of them");
        errors.push(ParamError::new("pass_env", message));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(value: serde_json::Value) -> String {
        let errors = resolve(value.as_object().unwrap()).unwrap_err();
        errors.into_iter().map(|e| e.message).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_cannot_run_is_refused() {
        insta::assert_snapshot!(messages(json!({"outputs": []})), @r#"
        nothing to run: write `run: [program, argument, ..]` or `shell: ".."`
        `outputs` is empty: name at least one file that the program leaves
        "#);
        let both =
            json!({"run": ["a"], "shell": "b", "outputs": ["/x", "a/../b", "o", "o/p", "."]});
        insta::assert_snapshot!(messages(both), @r"
        `run` and `shell` exclude each other
        `.` in `outputs` must be relative and stay in its folder
        `/x` in `outputs` must be relative and stay in its folder
        `a/../b` in `outputs` must be relative and stay in its folder
        `o/p` is inside `o`; name one
        ");
        let env = json!({"run": ["a"], "outputs": ["o"], "pass_env": ["X", "A=B"],
            "env": {"DISSIM_OUTPUT": "1", "X": "1"}});
        insta::assert_snapshot!(messages(env), @r"
        `DISSIM_OUTPUT`: names that start with DISSIM_ are the runner's
        `A=B` is no name of an environment variable
        `X` is in `env` and in `pass_env`; name it in one of them
        ");
    }

    #[test]
    fn what_no_program_can_be_passed_is_refused() {
        let long = "x".repeat(140_000);
        let given = json!({"run": ["a", long], "outputs": ["o"], "env": {"E": long}, "matrix": {"m": long}});
        insta::assert_snapshot!(messages(given), @r"
        the argument has 140000 bytes, and Linux passes at most 131071 to a program: put it into a file under `code` or `inputs`
        variable `E` has 140002 bytes, and Linux passes at most 131071 to a program: put it into a file under `code` or `inputs`
        axis `m` has 140016 bytes, and Linux passes at most 131071 to a program: put it into a file under `code` or `inputs`
        ");
        let zero = json!({"shell": "a\0b", "outputs": ["o"], "env": {"E": "\0"}});
        insta::assert_snapshot!(messages(zero), @r"
        `shell` has a zero byte, which cannot be passed to a program
        variable `E` has a zero byte, which cannot be passed to a program
        ");
        let fits = json!({"shell": "x".repeat(MAX_ARGUMENT_BYTES - 1), "outputs": ["o"]});
        assert!(resolve(fits.as_object().unwrap()).is_ok());
    }

    #[test]
    fn placeholders_are_those_of_arguments() {
        let run = json!(["{output}/x", "{input.a}{matrix.lr}", "{print $1} {matrix.x"]);
        let found = placeholders("run", &run);
        let found: Vec<_> =
            found.iter().map(|p| format!("{} {:?} {}", p.path, p.target, p.name)).collect();
        assert_eq!(found, ["[1] Input a", "[1] Axis lr"]);
        assert!(placeholders("shell", &json!("{matrix.x}")).is_empty());
    }

    #[test]
    fn order_of_lists_that_are_sets_does_not_matter() {
        let resolved = |value: serde_json::Value| resolve(value.as_object().unwrap()).unwrap();
        assert_eq!(
            resolved(json!({"shell": "x", "outputs": ["b", "a", "b"]})),
            resolved(json!({"shell": "x", "outputs": ["a", "b"], "env": {}})),
        );
    }
}
