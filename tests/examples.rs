//! The examples of the library do what the documents say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `cargo test` builds the examples beside the binary; `--test examples` alone does not.
fn example(name: &str) -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_dissim"));
    let example = binary.parent().unwrap().join("examples").join(name);
    assert!(example.exists(), "no example: cargo build --release --examples");
    example
}

#[test]
fn a_stage_kind_of_ones_own_runs_and_is_cached() {
    let output = Command::new(example("own_stage")).output().expect("cargo built the example");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @r"
    first run: 3 ran, 0 cached
      count[letter=a]: 6
      count[letter=b]: 4
      count[letter=c]: 2
    second run: 0 ran, 3 cached
      count[letter=a]: 6
      count[letter=b]: 4
      count[letter=c]: 2
    ");
}

#[test]
fn the_plan_is_asked_from_rust() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.yaml");
    let text = "version: 1\nname: t\nstages:\n  s: { kind: command, with: { run: [\"true\"], outputs: [x] } }\n";
    fs::write(&file, text).unwrap();
    let output = Command::new(example("look_up")).arg(&file).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "miss        0.0 s  s\n");
}

/// The document shows the files that are built and tested, not a copy that ages.
#[test]
fn the_document_shows_the_code_that_runs() {
    let document = fs::read_to_string(root().join("docs/new-stage-kind.md")).unwrap();
    for file in
        ["examples/letters/Cargo.toml", "examples/letters/build.rs", "examples/letters/src/lib.rs"]
    {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert!(
            document.contains(text.trim()),
            "docs/new-stage-kind.md does not show {file} as it is"
        );
    }
}
