//! What is damaged is found before it is used, put into quarantine, named, and made again.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::study::{Study, wait};
use super::support::{Project, files};

/// What is done to a file of the store.
#[derive(Debug, Clone, Copy)]
enum Damage {
    FlipFirst,
    FlipMiddle,
    FlipLast,
    Truncate,
    Empty,
    Grow,
    Remove,
    Swap,
}

const ALL: [Damage; 8] = [
    Damage::FlipFirst,
    Damage::FlipMiddle,
    Damage::FlipLast,
    Damage::Truncate,
    Damage::Empty,
    Damage::Grow,
    Damage::Remove,
    Damage::Swap,
];

impl Damage {
    /// Does it to `file`; `other` is one of the same kind.
    fn to(self, file: &Path, other: &Path) {
        let mut bytes = fs::read(file).unwrap();
        let last = bytes.len() - 1;
        match self {
            Self::FlipFirst => bytes[0] ^= 1,
            Self::FlipMiddle => bytes[last / 2] ^= 1,
            Self::FlipLast => bytes[last] ^= 1,
            Self::Truncate => bytes.truncate(last),
            Self::Empty => bytes.clear(),
            Self::Grow => bytes.push(b' '),
            Self::Remove => return fs::remove_file(file).unwrap(),
            Self::Swap => {
                let aside = file.with_extension("aside");
                fs::rename(file, &aside).unwrap();
                fs::rename(other, file).unwrap();
                return fs::rename(aside, other).unwrap();
            }
        }
        fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

fn cache(study: &Study) -> PathBuf {
    study.path().join("cache")
}

/// The records of the tasks behind `one`, so that they run again and use what it made.
fn forget_users(study: &Study) {
    for path in files(&cache(study).join("records")) {
        let record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        if record["task"] != "one" {
            fs::remove_file(path).unwrap();
        }
    }
}

/// A file under `folder` of the store by what it holds.
fn holding(study: &Study, folder: &str, holds: impl Fn(&str) -> bool) -> PathBuf {
    let all = files(&cache(study).join(folder));
    let fits = |path: &PathBuf| holds(&String::from_utf8_lossy(&fs::read(path).unwrap()));
    all.into_iter().find(fits).unwrap_or_else(|| panic!("nothing such in {folder}"))
}

fn record_of(study: &Study, task: &str) -> PathBuf {
    holding(study, "records", |text| {
        let record: Value = serde_json::from_str(text).unwrap();
        record["task"] == task
    })
}

/// After damage: a run ends well with the undisturbed artifacts, says what was damaged, and what
/// was is in quarantine.
fn is_mended(study: &Study, damaged: &Path, damage: Damage, folder: &str) {
    let what = format!("{damage:?} of {folder}");
    assert_eq!(wait(&mut study.start()), Some(0), "{what}\n{}", study.told());
    let told = study.told();
    study.is_sound(&what);
    study.is_complete(&what);
    let relative = damaged.strip_prefix(cache(study)).unwrap();
    let quarantined = cache(study).join("quarantine").join(relative).exists();
    match damage {
        // A byte more at the end of JSON is no damage.
        Damage::Grow if folder != "objects" => assert!(!quarantined, "{what}\n{told}"),
        Damage::Remove => {}
        _ => {
            assert!(told.contains(relative.to_str().unwrap()), "{what} is not named\n{told}");
            assert!(quarantined, "{what} is not in quarantine\n{told}");
        }
    }
}

#[test]
fn damage_of_every_kind_is_found_named_and_mended() {
    let study = Study::small();
    for damage in ALL {
        for folder in ["records", "trees", "objects"] {
            study.fresh();
            assert_eq!(wait(&mut study.start()), Some(0));
            let pick = |text: &'static str| match folder {
                "objects" => holding(&study, folder, move |bytes| bytes == text),
                _ => holding(&study, folder, move |bytes| bytes.contains(text)),
            };
            let (file, other) = match folder {
                "records" => (record_of(&study, "one"), record_of(&study, "three")),
                "trees" => (pick("deep/a"), pick("\"copy\"")),
                _ => (pick("one"), pick("same")),
            };
            if folder == "objects" {
                forget_users(&study);
            }
            damage.to(&file, &other);
            is_mended(&study, &file, damage, folder);
        }
    }
}

/// What only remembers is worth nothing where it is damaged, and harms nobody.
#[test]
fn damaged_memories_are_not_believed() {
    let study = Study::small();
    for damage in ALL {
        study.fresh();
        for _ in 0..2 {
            assert_eq!(wait(&mut study.start()), Some(0));
        }
        let index = cache(&study).join("index.bin");
        let other = cache(&study).join("stats.bin");
        // A study without project files has none of the second; any packed file will do.
        if !other.exists() {
            fs::write(&other, [0; 64]).unwrap();
        }
        damage.to(&index, &other);
        assert_eq!(wait(&mut study.start()), Some(0), "{damage:?}\n{}", study.told());
        study.is_sound(&format!("{damage:?}"));
        study.is_complete(&format!("{damage:?}"));
    }
    for folder in ["latest", "code", "runs"] {
        for path in files(&cache(&study).join(folder)) {
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            fs::write(path, b"{\"damaged").unwrap();
        }
        assert_eq!(wait(&mut study.start()), Some(0), "{folder}\n{}", study.told());
        study.is_complete(folder);
    }
}

/// A project whose only task copies `in` to `out` when it is told to.
fn copying(line: &str) -> Project {
    let project = Project::empty();
    project.write(&format!(
        "version: 1\nname: t\nstages:\n  a:\n    kind: command\n    with: {{ shell: '{line}', inputs: [in], outputs: [out] }}\n"
    ));
    project
}

/// The digest of what the task made of the file as it is now.
fn copied(project: &Project) -> String {
    let shown: Value = serde_json::from_str(&project.succeed("show a --json")).unwrap();
    shown[0]["tree"]["out"]["digest"].as_str().expect("a hit").to_owned()
}

/// Size and time of a file say nothing where the clock jumps or two writes fall into one tick.
#[test]
fn an_edit_is_seen_whatever_the_clock_says() {
    let project = copying("cp in out");
    let input = project.path().join("in");
    let set = |text: &str, time: SystemTime| {
        fs::write(&input, text).unwrap();
        File::options().write(true).open(&input).unwrap().set_modified(time).unwrap();
    };
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    set("1", now - hour);
    assert_eq!(project.ran("run"), 1);
    assert_eq!(project.ran("run"), 0);
    // The same size and the same time; another change of the inode.
    set("2", now - hour);
    assert_eq!(project.ran("run"), 1);
    // The clock stood an hour ahead when it was written, and was put right.
    set("3", now + hour);
    assert_eq!(project.ran("run"), 1);
    set("4", now + hour);
    assert_eq!(project.ran("run"), 1);
    // It goes back in time.
    set("5", now - 2 * hour);
    assert_eq!(project.ran("run"), 1);
    // Before 1970.
    set("6", SystemTime::UNIX_EPOCH - hour);
    assert_eq!(project.ran("run"), 1);
    assert_eq!(project.ran("run"), 0);
    // Edits in one tick of the clock: each is another content, or the one before.
    for text in ["7", "8", "9", "7", "8"] {
        fs::write(&input, text).unwrap();
        project.succeed("run");
        let digest = blake3::hash(text.as_bytes()).to_hex().to_string();
        assert_eq!(copied(&project), digest, "{text}");
    }
}

/// The result of a task whose input was written meanwhile is of no input that there is.
#[test]
fn an_input_that_is_written_while_the_task_runs_is_not_recorded() {
    let project = copying("cat in > out; echo x > $FLAG; while test -e $FLAG; do sleep 0.01; done");
    let flag = project.path().join("flag");
    let text = fs::read_to_string(project.path().join("pipeline.yaml")).unwrap();
    let env = format!("env: {{ FLAG: {} }}, inputs", flag.display());
    project.write(&text.replace("inputs", &env));
    let input = project.path().join("in");
    for (first, last) in [("1", "2"), ("3", "3")] {
        fs::write(&input, first).unwrap();
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_dissim"))
            .arg("run")
            .current_dir(project.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let start = std::time::Instant::now();
        while !flag.exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "the task never starts");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Written, and in the second round written back.
        fs::write(&input, "other").unwrap();
        fs::write(&input, last).unwrap();
        fs::remove_file(&flag).unwrap();
        let output = run.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(
            told.contains("`in` changed while the task ran; its result was not kept"),
            "{told}"
        );
        assert_eq!(files(&project.path().join("cache/records")), [] as [PathBuf; 0]);
    }
}
