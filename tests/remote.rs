//! The store that a group shares, through the binary: two projects that know each other only by an
//! address. Over `file://` here; the same over S3, with a real server, in `tests/s3.rs`.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{Small, files};
use tempfile::TempDir;

/// A shared folder, and projects of one study that use it.
struct Group {
    folder: TempDir,
}

impl Group {
    fn new() -> Self {
        Self { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn address(&self) -> String {
        format!("file://{}", self.path().display())
    }

    /// A project of its own folder, with these further keys under `store:`.
    fn project(&self, rest: &str) -> Small {
        let project = Small::new();
        let store = format!("name: small\nstore: {{ remote: \"{}\"{rest} }}\n", self.address());
        project.edit("name: small\n", &store);
        project
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let folder = self.path().join(folder);
        if folder.exists() { files(&folder) } else { Vec::new() }
    }

    /// What a command says, without the folders of the test.
    fn told(&self, project: &Small, arguments: &str) -> String {
        project.told(arguments).replace(&self.address(), "REMOTE")
    }
}

const WRITE: &str = ", mode: readwrite";

fn counts(told: &str) -> &str {
    told.lines().find_map(|line| line.split_once(" failed | ")).map_or("", |(counts, _)| counts)
}

/// The artifact of every task.
fn artifacts(project: &Small) -> Vec<(String, String)> {
    let mut all: Vec<_> = files(&project.path().join("cache/records"))
        .iter()
        .map(|file| serde_json::from_slice::<serde_json::Value>(&fs::read(file).unwrap()).unwrap())
        .map(|r| (r["task"].to_string(), r["artifact"].to_string()))
        .collect();
    all.sort();
    all
}

#[test]
fn what_one_computed_the_other_takes() {
    let group = Group::new();
    let (first, second, third) = (group.project(WRITE), group.project(""), group.project(""));
    assert_eq!(counts(&group.told(&first, "run")), "5 tasks: 0 cached, 5 ran, 0");
    // One object a task, one of code: its files are small.
    assert_eq!((group.files("records").len(), group.files("objects").len()), (5, 0));
    assert_eq!(group.files("code").len(), 1);
    insta::assert_snapshot!("taken", group.told(&second, "run"));
    assert_eq!(artifacts(&first), artifacts(&second));
    insta::assert_snapshot!("log_of_the_other", group.told(&second, "log say[word=one]"));
    // Its own work stays its own: it only reads.
    fs::write(second.path().join("names.txt"), "you\n").unwrap();
    second.succeed("run");
    assert_eq!(group.files("records").len(), 5);
    assert_eq!(counts(&group.told(&third, "run --keep-going")), "5 tasks: 5 cached, 0 ran, 0");
    // And it is a hit here from then on, remote or not.
    fs::remove_dir_all(group.path().join("records")).unwrap();
    assert_eq!(counts(&group.told(&third, "run")), "5 tasks: 5 cached, 0 ran, 0");
}

#[test]
fn push_and_pull_say_what_they_moved() {
    let group = Group::new();
    let (first, second) = (group.project(""), group.project(""));
    let mut told = vec![group.told(&second, "cache pull")];
    first.succeed("run");
    told.push(group.told(&first, "cache push say"));
    told.push(group.told(&first, "cache push"));
    told.push(group.told(&first, "cache push --all --json"));
    told.push(group.told(&second, "cache pull again"));
    told.push(group.told(&second, "cache pull"));
    told.push(group.told(&second, "run"));
    // A record says how long its task took: sizes differ by a few bytes.
    let sizes = |text: String| {
        let parts = text.split(", ").map(|part| match part.split_once(" kB") {
            Some((_, rest)) => format!("SIZE{rest}"),
            None => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join(", ")
    };
    insta::assert_snapshot!(sizes(told.join("\n")));
    let alone = Small::new();
    insta::assert_snapshot!("no_remote", alone.told("cache push"));
    insta::assert_snapshot!("bad_remote", alone.told("cache push --remote ftp://x"));
}

#[test]
fn large_blobs_are_objects_that_tasks_share_and_a_transfer_goes_on() {
    let group = Group::new();
    // 9 MB in two tasks alike, and one byte more in a third.
    let big = |project: &Small| {
        project.edit(
            "[sh, say.sh, \"{matrix.word}\"]",
            "[sh, -c, \"head -c 9000000 /dev/zero > said.txt; test {matrix.word} != three || echo >> said.txt\"]",
        );
        project.edit("[one, two]", "[one, two, three]");
    };
    let (first, second) = (group.project(WRITE), group.project(""));
    big(&first);
    big(&second);
    first.succeed("run say");
    let objects = group.files("objects");
    assert_eq!(objects.len(), 2);
    // The second's first attempt was cut off; what came of it is damaged in one of them.
    let taken = second.path().join("cache/tmp/taken");
    fs::create_dir_all(&taken).unwrap();
    for (at, object) in objects.iter().enumerate() {
        let mut start = fs::read(object).unwrap()[..1_000_000].to_vec();
        start[17] ^= u8::from(at == 1);
        fs::write(taken.join(object.file_name().unwrap()), start).unwrap();
    }
    assert_eq!(counts(&group.told(&second, "run say")), "3 tasks: 3 cached, 0 ran, 0");
    assert_eq!(artifacts(&first), artifacts(&second));
    assert_eq!(files(&taken).len(), 0);
}

/// What becomes of the bytes of a file.
type Damage = fn(&[u8]) -> Vec<u8>;

#[test]
fn what_is_not_what_it_says_is_refused_and_mended() {
    let group = Group::new();
    let first = group.project(WRITE);
    first.succeed("run say");
    let good: Vec<Vec<u8>> = group.files("records").iter().map(|f| fs::read(f).unwrap()).collect();
    let damage: [Damage; 4] = [
        |b| b[..b.len() / 2].to_vec(),
        |_| b"not a record at all".to_vec(),
        // The last blob that travels with the record.
        |b| [&b[..b.len() - 1], b"x"].concat(),
        // Another result under the same key: its manifest is not what the record says.
        |b| String::from_utf8_lossy(b).replacen("\"size\":", "\"size\":1", 1).into_bytes(),
    ];
    for (round, damage) in damage.iter().enumerate() {
        for (file, good) in group.files("records").iter().zip(&good) {
            fs::write(file, damage(good)).unwrap();
        }
        let reader = group.project(WRITE);
        let told = group.told(&reader, "run say");
        assert_eq!(counts(&told), "2 tasks: 0 cached, 2 ran, 0", "{told}");
        assert_eq!(
            told.matches("refused from REMOTE, and computed here: records/").count(),
            2,
            "{told}"
        );
        assert_eq!(artifacts(&first), artifacts(&reader), "{round}");
        // What it computed itself took the place of the damaged ones.
        let next = group.project("");
        assert_eq!(counts(&group.told(&next, "run say")), "2 tasks: 2 cached, 0 ran, 0");
    }
}

#[test]
fn only_signed_results_are_believed() {
    let group = Group::new();
    let keys = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let any = Small::new();
    let make = |name: &str| {
        let file = keys.path().join(name);
        let public = any.succeed(&format!("cache key {}", file.display()));
        (file, public.trim().to_owned())
    };
    let ((ours, public), (theirs, _)) = (make("ours"), make("theirs"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&ours).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // A key is never overwritten.
    assert_eq!(any.dissim(&format!("cache key {}", ours.display())).status.code(), Some(2));

    let trusting = format!(", mode: readwrite, trusted: [\"{public}\"]");
    let signed_by = |project: &Small, key: &Path| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_dissim"))
            .args(["run", "say"])
            .current_dir(project.path())
            .env("DISSIM_SIGNING_KEY", key)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // Somebody who is not trusted wrote first.
    signed_by(&group.project(WRITE), &theirs);
    let told = group.told(&group.project(&trusting), "run say");
    assert!(told.contains("none of the trusted keys signed it"), "{told}");
    assert_eq!(counts(&told), "2 tasks: 0 cached, 2 ran, 0");
    // Without a key that run could not sign what it sent in its place.
    let told = signed_by(&group.project(&trusting), &ours);
    assert!(told.contains("it is not signed"), "{told}");
    assert_eq!(
        counts(&group.told(&group.project(&trusting), "run say")),
        "2 tasks: 2 cached, 0 ran, 0"
    );
    let secret = fs::read_to_string(&ours).unwrap();
    assert!(!told.contains(secret.trim()));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_dissim"))
        .arg("run")
        .current_dir(group.project(WRITE).path())
        .env("DISSIM_SIGNING_KEY", &secret[..30])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("DISSIM_SIGNING_KEY is no secret key"), "{told}");
    assert!(!told.contains(&secret[..30]), "{told}");
}

#[test]
fn a_remote_that_is_down_costs_one_warning() {
    let project = Small::new();
    // Nothing listens on this port of this machine.
    let store = "name: small\nstore: { remote: \"http://127.0.0.1:9/x\", mode: readwrite }\n";
    project.edit("name: small\n", store);
    let told = project.told("run");
    assert_eq!(counts(&told), "5 tasks: 0 cached, 5 ran, 0");
    assert_eq!(told.matches("is unavailable, continuing without it").count(), 1, "{told}");
    assert!(told.contains("5 results were not sent to http://127.0.0.1:9/x"), "{told}");
    let told = project.told("cache push");
    assert!(told.contains("5 could not be sent") && told.contains("exit 1"), "{told}");
}
