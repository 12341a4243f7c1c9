//! Commands around a run: plan, diff, audit, export and import, schema, completions.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{Small, files};

#[test]
fn a_plan_says_how_long_it_will_take() {
    let project = Small::new();
    let mut told = vec![project.told("plan --jobs 2")];
    project.succeed("run");
    told.push(project.told("plan --jobs 2"));
    // Made up, so that the estimate is known: 3 s a word said, 10 s a count.
    project.pretend_durations(&[("say", 3.0), ("count", 10.0), ("again", 1.0)]);
    fs::write(project.path().join("names.txt"), "you\n").unwrap();
    told.push(project.told("plan --jobs 1"));
    // One after the other: 2 x 3 + 10 + 2 x 1. Two at once: 3, then 10 beside 1 and 1.
    let last = |arguments: &str| project.succeed(arguments).lines().last().unwrap().to_owned();
    assert_eq!(last("plan --jobs 1"), "2 to run, 3 may run after those; about 18s with 1 at once");
    assert_eq!(last("plan --jobs 2"), "2 to run, 3 may run after those; about 13s with 2 at once");
    project.edit("[one, two]", "[one, two, three]");
    told.push(project.told("plan count --jobs 2"));
    told.push(project.told("plan say --jobs 1 --json"));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn two_tasks_side_by_side() {
    let project = Small::new();
    let mut told = vec![project.told("diff say[word=one] say[word=two]")];
    project.succeed("run");
    told.push(project.told("diff say[word=one] say[word=two]"));
    told.push(project.told("diff say[word=one] say[word=one]"));
    told.push(project.told("diff say[word=one] say[word=two] --json"));
    told.push(project.told("diff say count"));
    told.push(project.told("diff say[word=one] sya"));
    insta::assert_snapshot!(told.join("\n"));
    // An older result is reached by its key.
    let old = project.record_of("say[word=one]");
    let old = old.file_stem().unwrap().to_str().unwrap().to_owned();
    fs::write(project.path().join("names.txt"), "you\n").unwrap();
    project.succeed("run");
    insta::assert_snapshot!(
        "a_task_and_its_past",
        project.told(&format!("diff {} say[word=one]", &old[..12])).replace(&old[..12], "KEY")
    );
}

#[test]
fn two_runs_side_by_side() {
    let project = Small::new();
    let mut told = vec![project.told("diff last last~1")];
    // Command stages report no metrics: each of this run gets one, and of the next another.
    let report = |acc: f64| {
        for file in files(&project.path().join("cache/records")) {
            let mut record: serde_json::Value =
                serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            if record["metrics"]["acc"].is_null() {
                record["metrics"] = serde_json::json!({ "acc": acc, "same": 1.0, "lost": null });
                fs::write(&file, support::sealed(record)).unwrap();
            }
        }
    };
    project.succeed("run");
    report(0.5);
    project.edit("times: 2", "times: 3");
    fs::write(project.path().join("names.txt"), "you\n").unwrap();
    project.succeed("run");
    report(0.75);
    let lines = |text: &str| {
        let kept = text.lines().filter(|l| !l.starts_with("a  ") && !l.starts_with("b  "));
        let kept = kept.filter(|l| !l.trim_start().starts_with("pipeline"));
        kept.map(|line| format!("{line}\n")).collect::<String>()
    };
    told.push(lines(&project.told("diff last~1 last")));
    told.push(lines(&project.told("diff last~1 last --tasks")));
    told.push(lines(&project.told("diff last last")));
    told.push(project.told("diff last say"));
    insta::assert_snapshot!(told.join("\n"));
    let json: serde_json::Value =
        serde_json::from_str(&project.succeed("diff last~1 last --json")).unwrap();
    assert_eq!(
        json["only_b"],
        serde_json::json!(["again[times=3,word=one]", "again[times=3,word=two]"])
    );
    assert_eq!(json["differ"].as_array().unwrap().len(), 3);
    assert_eq!(json["same"], 0);
}

#[test]
fn an_audit_finds_what_is_not_deterministic() {
    let project = Small::new();
    project.succeed("run");
    let mut told = vec![project.told("audit"), project.told("audit --sample 1 count")];
    let before = files(&project.path().join("cache/objects"));
    fs::write(project.path().join("say.sh"), format!("{}date +%N >> said.txt\n", support::SAY))
        .unwrap();
    project.succeed("run");
    let after_run = files(&project.path().join("cache/objects"));
    assert_ne!(before, after_run);
    told.push(project.told("audit"));
    told.push(project.told("audit say[word=one] --json"));
    insta::assert_snapshot!(told.join("\n"));
    // What came out again is not kept.
    assert_eq!(files(&project.path().join("cache/objects")), after_run);
    let sampled = project.succeed("audit again count --sample 2");
    assert!(sampled.ends_with("2 cached tasks ran again: 2 same, 0 not\n"), "{sampled}");
}

#[test]
fn a_bundle_is_cache_hits_elsewhere() {
    let project = Small::new();
    let mut told = vec![project.told("export all.tar")];
    project.succeed("run");
    told.push(project.told("export all.tar"));
    // The same records, the same bytes.
    project.succeed("export again.tar");
    let bundle = fs::read(project.path().join("all.tar")).unwrap();
    assert_eq!(bundle, fs::read(project.path().join("again.tar")).unwrap());

    let other = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(other.path().join("all.tar"), &bundle).unwrap();
    told.push(Small::told_in(other.path(), "import all.tar --into copy"));
    let copy = other.path().join("copy");
    told.push(Small::told_in(&copy, "run"));
    told.push(Small::told_in(&copy, "cache verify"));
    told.push(Small::told_in(&copy, "log say[word=one]"));
    // Once more, and over an edit.
    fs::write(copy.join("names.txt"), "mine\n").unwrap();
    told.push(Small::told_in(other.path(), "import all.tar --into copy"));
    assert_eq!(fs::read_to_string(copy.join("names.txt")).unwrap(), "mine\n");
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_bad_bundle_imports_nothing_false() {
    let project = Small::new();
    project.succeed("run");
    project.succeed("export all.tar");
    let bundle = fs::read(project.path().join("all.tar")).unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let import = |name: &str, bytes: &[u8]| {
        let into = folder.path().join(name);
        fs::create_dir(&into).unwrap();
        fs::write(into.join("bundle.tar"), bytes).unwrap();
        let told = Small::told_in(&into, "import bundle.tar");
        let records = files(&into.join("cache/records")).len();
        format!("## {name}\n{told}{records} records\n")
    };
    // A byte of the text that was said, wherever it stands in the archive.
    let at = bundle.windows(10).position(|w| w == b"one to me\n").unwrap();
    let mut flipped = bundle.clone();
    flipped[at] = b'O';
    let mut told = vec![
        import("empty", b""),
        import("text", b"hello, I am no bundle"),
        import("a byte flipped", &flipped),
        import(
            "a path that leaves",
            &archive(&[("bundle.json", CONTENTS), ("project/../../x", "x")]),
        ),
        import("an absolute path", &archive(&[("bundle.json", CONTENTS), ("/tmp/x", "x")])),
        import("another version", &archive(&[("bundle.json", &CONTENTS.replace(":1,", ":9,"))])),
        import(
            "a record alone",
            &archive(&[
                ("bundle.json", CONTENTS),
                (&format!("records/{}.json", "a".repeat(64)), "{}"),
            ]),
        ),
    ];
    told.push(Small::told_in(folder.path(), "import none.tar"));
    insta::assert_snapshot!(told.join("\n"));
    // Cut off within the last record: none is kept, since nobody knows what else is missing.
    let cut = import("cut in the last record", &bundle[..bundle.len() - 1024 - 520]);
    assert!(cut.contains("exit 2") && cut.ends_with("0 records\n"), "{cut}");
}

const CONTENTS: &str = r#"{"version":1,"name":"t","dissim":"0","tasks":{}}"#;

/// A tar file with any names, also those that a library would refuse to write.
fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, text) in entries {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", text.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = b'0';
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(header);
        let mut block = text.as_bytes().to_vec();
        block.resize(text.len().next_multiple_of(512), 0);
        bytes.extend(block);
    }
    bytes.extend([0; 1024]);
    bytes
}

/// What is checked in is what the program writes. To renew it:
/// `dissim schema > pipeline.schema.json; dissim schema --markdown > docs/pipeline-reference.md`.
#[test]
fn schema_and_reference_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (arguments, file) in
        [("schema", "pipeline.schema.json"), ("schema --markdown", "docs/pipeline-reference.md")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_dissim"))
            .args(arguments.split(' '))
            .current_dir(root)
            .output()
            .unwrap();
        let now = String::from_utf8(output.stdout).unwrap();
        let kept = fs::read_to_string(root.join(file)).unwrap_or_default();
        assert!(now == kept, "{file} is not current: dissim {arguments} > {file}");
    }
}

#[test]
fn shells_complete_task_names() {
    let project = Small::new();
    let complete = |shell: &str, words: &[&str], index: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_dissim"))
            .arg("--")
            .args(words)
            .current_dir(project.path())
            .env("COMPLETE", shell)
            .env("_CLAP_COMPLETE_INDEX", index)
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .env("_CLAP_COMPLETE_SPACE", "false")
            .env("_CLAP_IFS", "\n")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let told = ["bash", "zsh", "fish"].map(|shell| {
        let run = complete(shell, &["dissim", "why", "say["], "2");
        let profile = complete(shell, &["dissim", "stat"], "1");
        format!("## {shell}\n{run}\n{profile}\n")
    });
    insta::assert_snapshot!(told.join("\n"));
    for shell in ["bash", "zsh", "fish"] {
        let script = project.succeed(&format!("completions {shell}"));
        assert!(script.contains("COMPLETE"), "{script}");
    }
}
