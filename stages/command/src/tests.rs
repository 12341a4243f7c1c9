//! The stage with real programs.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::*;

/// A project with a few files, an output and a scratch folder.
fn project() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };

    write("project/data/a.csv", "1\n");
    write("project/data/b.csv", "2\n");
    write("project/tool.sh", "#!/bin/sh\ncat data/*.csv > sum.txt\n");
    write("project/secret.txt", "undeclared\n");
    write("artifact/model.txt", "weights\n");
    write("other/model.txt", "more\n");
    fs::create_dir_all(root.path().join("scratch")).unwrap();
    root
}

fn context(root: &TempDir, value: Value) -> Context {
    let params = Command.resolve(value.as_object().unwrap()).unwrap();
    let output = root.path().join("output");
    let _ = fs::remove_dir_all(&output);
    fs::create_dir_all(&output).unwrap();
    let spec = dissim_api::TaskSpec {
        version: dissim_api::TaskSpec::VERSION,
        task: "mine[n=1]".to_owned(),
        kind: "command".to_owned(),
        params,
        inputs: std::collections::BTreeMap::new(),
        output,
        scratch: root.path().join("scratch"),
        project: root.path().join("project"),
        backend: "flex".to_owned(),
        device: dissim_api::Device::Cpu,
        pipeline: None,
    };
    Context::with_sink(spec, |_| {})
}

fn run(root: &TempDir, value: Value) -> Result<(), String> {
    let error = Command.run(&mut context(root, value)).map_err(|e| e.to_string());
    error.map_err(|e| e.replace(root.path().to_str().unwrap(), "ROOT"))
}

fn output(root: &TempDir, file: &str) -> String {
    fs::read_to_string(root.path().join("output").join(file)).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn declared_files_are_there_and_declared_outputs_are_kept() {
    let root = project();
    let given = json!({
        "run": ["sh", "tool.sh"], "code": ["tool.sh"], "inputs": ["data/*.csv"], "outputs": ["./sum.txt"],
    });
    let params = Command.resolve(given.as_object().unwrap()).unwrap();
    assert_eq!(Command.files(&params), [Path::new("data/*.csv"), Path::new("tool.sh")]);
    run(&root, given).unwrap();
    assert_eq!(output(&root, "sum.txt"), "1\n2\n");
    assert_eq!(names(&root.path().join("output")), ["sum.txt"]);
}

#[test]
fn what_is_not_declared_is_neither_there_nor_kept() {
    let root = project();
    let line =
        "ls > seen; ls -a $DISSIM_OUTPUT >> seen; echo x > stray; echo y > $DISSIM_OUTPUT/stray";
    run(&root, json!({"shell": line, "outputs": ["seen"], "code": ["data"]})).unwrap();
    assert_eq!(output(&root, "seen"), "data\nseen\n.\n..\n");
    assert_eq!(names(&root.path().join("output")), ["seen"]);
}

#[test]
fn undeclared_files_are_reported() {
    let root = project();
    let params = json!({"shell": "true", "outputs": ["kept"], "code": ["tool.sh"]});
    let context = context(&root, params.clone());
    let params: CommandParams = serde_json::from_value(Value::Object(
        Command.resolve(params.as_object().unwrap()).unwrap(),
    ))
    .unwrap();
    let work = WorkFolder::prepare(&context, &params).unwrap();
    for (folder, file) in
        [(work.path(), "kept/deep"), (work.path(), "stray"), (context.output(), "x")]
    {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let undeclared = work.collect(&params.outputs, context.output()).unwrap();
    assert_eq!(undeclared, [Path::new("stray"), Path::new("x")]);
    assert_eq!(names(context.output()), ["kept"]);
}

#[test]
fn artifacts_are_found_by_variable_link_and_placeholder() {
    let root = project();
    let line = "cat $DISSIM_INPUT_MY_MODEL/model.txt inputs/my-model/model.txt \"$1\" > $2/out";
    let given = json!({
        "run": ["sh", "-c", line, "sh", "{input.my-model}/model.txt", "{output}"], "outputs": ["out"],
    });
    let artifact = root.path().join("artifact");
    let mut one = context(&root, given).with_input("my-model", "train[seed=0]", &artifact);
    Command.run(&mut one).unwrap();
    assert_eq!(output(&root, "out"), "weights\nweights\nweights\n");
    let line = "echo \"$DISSIM_INPUT_RUNS\" | wc -l > out; cat inputs/runs/*/model.txt >> out";
    let mut many = context(&root, json!({"shell": line, "outputs": ["out"]}))
        .with_input("runs", "train[seed=0]", &artifact)
        .with_input("runs", "train[seed=1]", &root.path().join("other"));
    Command.run(&mut many).unwrap();
    assert_eq!(output(&root, "out").trim_start(), "2\nweights\nmore\n");
}

#[test]
fn the_environment_holds_only_what_is_allowed() {
    let root = project();
    let given = json!({"shell": "env | cut -d= -f1 | sort > out", "outputs": ["out"],
        "env": {"LEVEL": "3"}, "pass_env": ["NO_SUCH_VARIABLE"]});
    run(&root, given).unwrap();
    let seen = output(&root, "out");
    // A shell sets a few of its own.
    let seen: Vec<&str> =
        seen.lines().filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
    let mut expected = vec!["DISSIM_OUTPUT", "DISSIM_SCRATCH", "DISSIM_TASK", "LEVEL"];
    expected.extend(["HOME", "PATH"].iter().filter(|name| std::env::var_os(name).is_some()));
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn no_shell_reads_the_arguments_of_run() {
    let root = project();
    run(&root, json!({"run": ["touch", "$HOME; {x} *"], "outputs": ["$HOME; {x} *"]})).unwrap();
    assert_eq!(names(&root.path().join("output")), ["$HOME; {x} *"]);
}

#[test]
fn the_project_cannot_be_changed_through_copied_code() {
    let root = project();
    let line = "echo changed > tool.sh; echo done > out";
    run(&root, json!({"shell": line, "outputs": ["out"], "code": ["tool.sh"]})).unwrap();
    let text = fs::read_to_string(root.path().join("project/tool.sh")).unwrap();
    assert!(text.starts_with("#!/bin/sh"), "{text}");
}

#[test]
fn scratch_survives_a_failure_and_the_working_folder_does_not() {
    let root = project();
    let line = "if test -f $DISSIM_SCRATCH/half; then test ! -f half && echo whole > out; \
                else echo x > half; echo x > $DISSIM_SCRATCH/half; exit 1; fi";
    let given = json!({"shell": line, "outputs": ["out"]});
    assert!(run(&root, given.clone()).is_err());
    run(&root, given).unwrap();
    assert_eq!(output(&root, "out"), "whole\n");
}

#[test]
fn failures_say_what_happened() {
    let root = project();
    let error = |value: Value| run(&root, value).unwrap_err();
    insta::assert_snapshot!(error(json!({"shell": "exit 3", "outputs": ["x"]})), @r"
    `/bin/sh` ended with exit code 3
      help: what it printed is in the task's log: dissim log <task>
    ");
    insta::assert_snapshot!(error(json!({"shell": "kill -9 $$", "outputs": ["x"]})), @r"
    `/bin/sh` was ended by signal 9
      help: what it printed is in the task's log: dissim log <task>
    ");
    insta::assert_snapshot!(error(json!({"shell": "echo > y", "outputs": ["x", "y", "z/"]})), @r"
    the program did not leave `x`, `z`
      help: it must be there when the program ends, relative to its working folder or in $DISSIM_OUTPUT; the log says what it left instead
    ");
    insta::assert_snapshot!(error(json!({"run": ["no-such-program"], "outputs": ["x"]})), @r"
    cannot start `no-such-program`: No such file or directory (os error 2)
      help: install it, or check PATH and the first entry of `run`
    ");
    insta::assert_snapshot!(error(json!({"run": ["./tool.sh"], "outputs": ["x"]})), @r"
    cannot start `./tool.sh`: No such file or directory (os error 2)
      help: a path in `run` is relative to the working folder: name the file under `code:` too
    ");
    insta::assert_snapshot!(error(json!({"run": ["./tool.sh"], "code": ["tool.sh"], "outputs": ["x"]})), @r"
    cannot start `./tool.sh`: Permission denied (os error 13)
      help: make the file executable, or run it by its interpreter
    ");
    insta::assert_snapshot!(error(json!({"shell": "ln -s /etc/hosts x", "outputs": ["x"]})), @r"
    output `x` is or holds a link, and must be plain files
      at: ROOT/scratch/work/x
      help: let the program write the file itself
    ");
    insta::assert_snapshot!(error(json!({"shell": "echo > x; echo > $DISSIM_OUTPUT/x", "outputs": ["x"]})), @r"
    output `x` was written twice
      at: ROOT/output/x
      help: write it either to the working folder or to $DISSIM_OUTPUT
    ");
    insta::assert_snapshot!(error(json!({"run": ["echo", "{input.model}"], "outputs": ["x"]})), @r"
    input `model` must be one artifact, and is 0
      help: name one task under `needs: { model: .. }`
    ");
    insta::assert_snapshot!(error(json!({"shell": "true", "inputs": ["*.parquet"], "outputs": ["x"]})), @r"
    no file matches `*.parquet`
      at: ROOT/project
      help: check the name, or take the entry out
    ");
}

#[test]
fn axes_reach_the_program() {
    let root = project();
    let mut given = json!({
        "run": ["sh", "-c", "echo \"$1 $2 {} $DISSIM_MATRIX_SEED\" > seen", "sh", "{matrix.seed}", "{matrix.way}"],
        "outputs": ["seen"], "matrix": {"seed": 3, "way": "a b"},
    });
    run(&root, given.clone()).unwrap();
    assert_eq!(output(&root, "seen"), "3 a b {} 3\n");
    given["matrix"] = json!({"sed": 3});
    insta::assert_snapshot!(run(&root, given).unwrap_err(), @r"
    the stage has no axis `seed` of its own
      help: its axes are sed
    ");
}
