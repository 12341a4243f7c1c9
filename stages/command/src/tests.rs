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
    let project = root.path().join("project");
    let patterns = Command.code_files(&params);
    // A pattern that means nothing is an error of the runner's, before the stage runs.
    let code = patterns.iter().flat_map(|p| dissim_api::files::expand(&project, p).unwrap());
    let code = code.map(|file| (file.clone(), project.join(file))).collect();
    let spec = dissim_api::TaskSpec {
        version: dissim_api::TaskSpec::VERSION,
        task: "mine[n=1]".to_owned(),
        kind: "command".to_owned(),
        params,
        inputs: std::collections::BTreeMap::new(),
        code,
        output,
        scratch: root.path().join("scratch"),
        project,
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
    assert_eq!(Command.files(&params), [Path::new("data/*.csv")]);
    assert_eq!(Command.code_files(&params), [Path::new("tool.sh")]);
    run(&root, given).unwrap();
    assert_eq!(output(&root, "sum.txt"), "1\n2\n");
    assert_eq!(names(&root.path().join("output")), ["sum.txt"]);
}

#[test]
fn what_is_not_declared_is_neither_there_nor_kept() {
    let root = project();
    let line = "ls > seen; echo x > stray; echo y > $DISSIM_OUTPUT/stray_too";
    run(&root, json!({"shell": line, "outputs": ["seen"], "code": ["data"]})).unwrap();
    assert_eq!(output(&root, "seen"), "data\nseen\n");
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
    for file in ["kept/deep", "stray", "x"] {
        let path = work.path().join(file);
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
}

#[test]
fn gathered_artifacts_are_numbered_and_their_axes_listed() {
    let root = project();
    let gathered = root.path().join("gathered");
    let axes = |seed: u64| json!({"seed": seed, "lr": "a,b"}).as_object().unwrap().clone();
    for (number, text) in ["weights\n", "more\n"].iter().enumerate() {
        let folder = gathered.join(number.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("model.txt"), text).unwrap();
    }
    let line = "ls $DISSIM_INPUT_RUNS > out; cat inputs/runs/*/model.txt >> out; cat inputs/runs.json >> out";
    let many = |count: u64| {
        let given = json!({"shell": line, "outputs": ["out"]});
        (0..count).fold(context(&root, given), |context, seed| {
            context.with_gathered("runs", axes(seed), &gathered.join(seed.to_string()))
        })
    };
    Command.run(&mut many(2)).unwrap();
    insta::assert_snapshot!(output(&root, "out"), @r#"
    0
    1
    weights
    more
    [
      {
        "axes": {
          "lr": "a,b",
          "seed": 0
        },
        "path": "inputs/runs/0"
      },
      {
        "axes": {
          "lr": "a,b",
          "seed": 1
        },
        "path": "inputs/runs/1"
      }
    ]
    "#);
    // The layout is the same for one.
    Command.run(&mut many(1)).unwrap();
    assert!(output(&root, "out").starts_with("0\nweights\n["));
}

#[test]
fn inputs_are_copies_and_large_ones_are_links() {
    let root = project();
    let artifact = root.path().join("artifact");
    let large = fs::File::create(artifact.join("large")).unwrap();
    large.set_len(9 << 20).unwrap();
    fs::create_dir(artifact.join("folder")).unwrap();
    std::os::unix::fs::symlink("../model.txt", artifact.join("folder/link")).unwrap();
    let line = "chmod -R u+w inputs data; echo changed > inputs/model/model.txt; echo changed > data/a.csv; \
                cp -r inputs/model out; readlink inputs/model/folder/link > out/link";
    let given = json!({"shell": line, "inputs": ["data"], "outputs": ["out"]});
    let mut one = context(&root, given).with_input("model", "train", &artifact);
    Command.run(&mut one).unwrap();
    let read = |file: &str| fs::read_to_string(root.path().join(file)).unwrap();
    assert_eq!(read("artifact/model.txt"), "weights\n");
    assert_eq!(read("project/data/a.csv"), "1\n");
    assert_eq!(
        [output(&root, "out/model.txt"), output(&root, "out/link")],
        ["changed\n", "../model.txt\n"]
    );
    // What was a link is a file in the output.
    let kept = fs::symlink_metadata(root.path().join("output/out/large")).unwrap();
    assert!(kept.is_file() && kept.len() == 9 << 20);
}

#[test]
fn all_that_is_placed_has_one_time() {
    let root = project();
    let artifact = root.path().join("artifact");
    let line = "find . -type f -printf '%TY-%Tm-%Td\n' | sort | uniq -c > out";
    let given = json!({"shell": line, "inputs": ["data"], "code": ["tool.sh"], "outputs": ["out"]});
    let mut one = context(&root, given).with_input("model", "train", &artifact);
    Command.run(&mut one).unwrap();
    let placed = output(&root, "out");
    assert_eq!(placed.lines().next().unwrap().trim(), "4 1980-01-01", "{placed}");
}

#[test]
fn a_failing_line_or_pipe_fails_the_task() {
    let root = project();
    for line in ["false\necho done > out\n", "false | cat > log; echo 1 > out"] {
        let error = run(&root, json!({"shell": line, "outputs": ["out"]})).unwrap_err();
        assert!(error.starts_with("`shell` ended with exit code 1"), "{line}: {error}");
    }
}

#[test]
fn outputs_stay_where_they_are_if_one_is_missing() {
    let root = project();
    let line = "echo hours > model.bin; mkdir d; echo 1 > d/x; echo 1 > metric.json";
    let given = json!({"shell": line, "outputs": ["model.bin", "d", "metrics.json"]});
    let error = run(&root, given).unwrap_err();
    assert!(error.contains("did not leave `metrics.json`\n  at: ROOT/scratch/failed\n"), "{error}");
    let kept = root.path().join("scratch/failed");
    assert_eq!(names(&kept), ["d", "metric.json", "model.bin"]);
    assert!(names(&root.path().join("output")).is_empty());
}

#[test]
fn what_was_only_placed_is_not_made() {
    let root = project();
    for outputs in ["tool.sh", "data", "data/a.csv"] {
        let given =
            json!({"shell": "true", "code": ["tool.sh"], "inputs": ["data"], "outputs": [outputs]});
        let error = run(&root, given.clone()).unwrap_err();
        assert!(error.starts_with(&format!("the program did not leave `{outputs}`")), "{error}");
    }
    let line = "echo changed > tool.sh; echo 3 > data/c.csv";
    let given = json!({"shell": line, "code": ["tool.sh"], "inputs": ["data"], "outputs": ["tool.sh", "data"]});
    run(&root, given).unwrap();
    assert_eq!(names(&root.path().join("output/data")), ["a.csv", "b.csv", "c.csv"]);
}

#[test]
fn folders_without_write_permission_are_kept_and_removed() {
    let root = project();
    let line =
        "mkdir -p out/ro; echo 1 > out/ro/f; chmod 555 out/ro out; mkdir x; touch x/f; chmod 0 x";
    let given = json!({"shell": line, "outputs": ["out"]});
    run(&root, given.clone()).unwrap();
    assert_eq!(output(&root, "out/ro/f"), "1\n");
    run(&root, given).unwrap();
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
    let mut expected = vec!["DISSIM_OUTPUT", "DISSIM_SCRATCH", "LEVEL"];
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
    `shell` ended with exit code 3
      help: what it printed is in the task's log: dissim log <task>
    ");
    insta::assert_snapshot!(error(json!({"shell": "kill -9 $$", "outputs": ["x"]})), @r"
    `shell` was ended by signal 9
      help: what it printed is in the task's log: dissim log <task>
    ");
    insta::assert_snapshot!(error(json!({"shell": "echo > y", "outputs": ["x", "y", "z/"]})), @r"
    the program did not leave `x`, `z`
      at: ROOT/scratch/failed
      help: outputs must be there when the program ends, relative to its working folder; files under `code` and `inputs` do not count; the log says what it left instead
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
    output `x` is a link to `/etc/hosts`, which is not kept
      at: ROOT/scratch/failed
      help: links must be relative and lead to something in the outputs; or let the program write the file itself
    ");
    insta::assert_snapshot!(error(json!({"shell": "mkfifo x", "outputs": ["x"]})), @r"
    output `x` is neither a file, a folder nor a link
      at: ROOT/scratch/failed
      help: let the program write a file
    ");
    fs::write(root.path().join("project/crlf.sh"), "#!/bin/sh\r\ntrue\r\n").unwrap();
    let program = root.path().join("project/crlf.sh");
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    insta::assert_snapshot!(error(json!({"run": ["./crlf.sh"], "code": ["crlf.sh"], "outputs": ["x"]})), @r"
    cannot start `./crlf.sh`: No such file or directory (os error 2)
      help: the file is there, but not the interpreter that its first line names: check that line, and the file for Windows line ends
    ");
    insta::assert_snapshot!(error(json!({"run": ["echo", "{input.model}"], "outputs": ["x"]})), @r"
    the stage has no input `model`
      help: add `needs: { model: .. }`
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
