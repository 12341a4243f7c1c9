//! A project of small programs, for tests of what the binary says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use walkdir::WalkDir;

/// Two words are said to a name, and then counted.
pub const SMALL: &str = r#"version: 1
name: small
params: { times: 2, words: [one, two] }
stages:
  say:
    kind: command
    matrix: { word: "${words}" }
    with:
      run: [sh, say.sh, "{matrix.word}"]
      code: [say.sh]
      inputs: [names.txt]
      env: { MOOD: calm }
      outputs: [said.txt]
  count:
    kind: command
    needs: { texts: "say[*]" }
    with: { shell: "for i in 1 2; do cat inputs/texts/*/*; done | wc -l > lines; echo $TIMES >> lines", env: { TIMES: two }, outputs: [lines] }
  again:
    kind: command
    needs: { text: say }
    matrix: { times: "${times}" }
    with: { shell: "for i in $(seq $DISSIM_MATRIX_TIMES); do cat inputs/text/said.txt; done > all.txt", outputs: [all.txt] }
"#;

/// What the stage `say` runs.
pub const SAY: &str = "echo \"$1 to $(cat names.txt)\" > said.txt\necho \"saying $1\" >&2\n";

/// A project folder with [`SMALL`] and its files.
pub struct Small {
    folder: TempDir,
}

impl Small {
    pub fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let project = Self { folder };
        fs::write(project.path().join("pipeline.yaml"), SMALL).unwrap();
        fs::write(project.path().join("say.sh"), SAY).unwrap();
        fs::write(project.path().join("names.txt"), "me\n").unwrap();
        project
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces a text in pipeline.yaml that must be there.
    pub fn edit(&self, old: &str, new: &str) {
        let file = self.path().join("pipeline.yaml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(old), "`{old}` is not in\n{text}");
        fs::write(file, text.replace(old, new)).unwrap();
    }

    /// Runs `dissim` with arguments split at spaces.
    pub fn dissim(&self, arguments: &str) -> Output {
        run(self.path(), arguments)
    }

    /// The same, but it must succeed; returns stdout.
    pub fn succeed(&self, arguments: &str) -> String {
        let output = self.dissim(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "dissim {arguments}\n{stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The command, what it says on stdout and stderr, and its exit code, without what differs
    /// from run to run.
    pub fn told(&self, arguments: &str) -> String {
        Self::told_in(self.path(), arguments)
    }

    /// The same, with arguments that may hold spaces.
    pub fn told_words(&self, words: &[&str]) -> String {
        let quoted = |word: &&str| {
            let plain = word.chars().all(|c| c.is_alphanumeric() || "-_.=".contains(c));
            if plain && !word.is_empty() { (*word).to_owned() } else { format!("{word:?}") }
        };
        let shown: Vec<String> = words.iter().map(quoted).collect();
        Self::tell(self.path(), &shown.join(" "), &run_words(self.path(), words))
    }

    /// The same in any folder.
    pub fn told_in(folder: &Path, arguments: &str) -> String {
        Self::tell(folder, arguments, &run(folder, arguments))
    }

    fn tell(folder: &Path, arguments: &str, output: &Output) -> String {
        let code = output.status.code().map_or("none".to_owned(), |c| c.to_string());
        let mut told = format!("$ dissim {arguments}\n");
        told += &String::from_utf8_lossy(&output.stdout);
        if !output.stderr.is_empty() {
            told += &format!("--- stderr\n{}", String::from_utf8_lossy(&output.stderr));
        }
        told += &format!("--- exit {code}\n");
        let folder = folder.canonicalize().unwrap();
        mask(&told.replace(folder.to_str().unwrap(), "PROJECT"))
    }

    /// Rewrites the records of stage `say` as a build with another version of one source file, one
    /// file more and one crate less would have made them.
    pub fn pretend_older_code(&self) {
        let cache = self.path().join("cache");
        for file in files(&cache.join("records")) {
            let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            let code = record["description"]["code"].as_str().unwrap().to_owned();
            let manifest = fs::read(cache.join("code").join(format!("{code}.json"))).unwrap();
            let mut manifest: dissim_api::Code = serde_json::from_slice(&manifest).unwrap();
            manifest.0.insert("stages/command/src/lib.rs".into(), "0".repeat(64));
            manifest.0.insert("stages/command/src/gone.rs".into(), "0".repeat(64));
            manifest.0.insert("some-crate".into(), "1.0.1".into());
            let older = manifest.digest();
            let kept = serde_json::to_vec(&manifest).unwrap();
            fs::write(cache.join("code").join(format!("{older}.json")), kept).unwrap();
            // The record moves to the key that such a build would have given it.
            record["description"]["code"] = older.into();
            let description = serde_json::from_value(record["description"].clone()).unwrap();
            let key = dissim::key::Description::key(&description).to_string();
            record["key"] = key.clone().into();
            let moved = cache.join("records").join(&key[..2]).join(format!("{key}.json"));
            fs::create_dir_all(moved.parent().unwrap()).unwrap();
            fs::remove_file(&file).unwrap();
            fs::write(moved, sealed(record.clone())).unwrap();
            self.point_latest(&cache, record["task"].as_str().unwrap(), &key);
        }
    }

    /// Sets what the tasks of each stage took, in their records.
    pub fn pretend_durations(&self, stages: &[(&str, f64)]) {
        for file in files(&self.path().join("cache/records")) {
            let mut record = read(&file);
            let task = record["task"].as_str().unwrap().to_owned();
            let of = stages.iter().find(|(stage, _)| task.starts_with(stage)).unwrap();
            record["duration_s"] = of.1.into();
            fs::write(&file, sealed(record)).unwrap();
        }
    }

    /// The record of a task that ran once.
    pub fn record_of(&self, task: &str) -> PathBuf {
        let records = files(&self.path().join("cache/records"));
        let of = |path: &&PathBuf| read(path)["task"] == task;
        records.iter().find(of).expect("the task has a record").clone()
    }

    /// The manifest of a task's artifact.
    pub fn tree_of(&self, task: &str) -> PathBuf {
        let artifact = read(&self.record_of(task))["artifact"].as_str().unwrap().to_owned();
        let trees = self.path().join("cache/trees");
        trees.join(&artifact[..2]).join(format!("{artifact}.json"))
    }

    /// The blob of a file that a task made.
    pub fn object_of(&self, task: &str, file: &str) -> PathBuf {
        let digest = read(&self.tree_of(task))[file]["digest"].as_str().unwrap().to_owned();
        self.path().join("cache/objects").join(&digest[..2]).join(digest)
    }

    fn point_latest(&self, cache: &Path, task: &str, key: &str) {
        for file in files(&cache.join("latest")) {
            let mut latest: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            if latest["task"] == task {
                latest["key"] = key.into();
                fs::write(&file, latest.to_string()).unwrap();
            }
        }
    }
}

/// Runs the binary in `folder`, without colours and with a fixed width.
fn run(folder: &Path, arguments: &str) -> Output {
    run_words(folder, &arguments.split_whitespace().collect::<Vec<_>>())
}

/// The same, with arguments that may hold spaces.
pub fn run_words(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dissim"))
        .args(words)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()
        .expect("the binary was built with the tests")
}

/// The bytes of a record that was edited, with the checksum that it has then.
pub fn sealed(mut record: Value) -> Vec<u8> {
    record.as_object_mut().unwrap().remove("check");
    let record: dissim::store::Record = serde_json::from_value(record).unwrap();
    record.sealed().unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every file below `folder`.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap);
    entries.filter(|e| e.file_type().is_file()).map(|e| e.into_path()).collect()
}

/// Replaces digests, times, sizes of memory and the host's name. Tasks of one stage start and end
/// in any order, so progress lines are sorted.
fn mask(text: &str) -> String {
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let masked: Vec<String> = text.lines().map(|line| mask_line(line, &host)).collect();
    let mut lines: Vec<String> = Vec::new();
    let progress =
        |line: &str| ["      start ", "[n] ", "goes: "].iter().any(|start| line.starts_with(start));
    for line in masked {
        lines.push(line);
    }
    let mut at = 0;
    while at < lines.len() {
        let end = (at..lines.len()).find(|&i| !progress(&lines[i])).unwrap_or(lines.len());
        lines[at..end].sort();
        at = end + 1;
    }
    lines.join("\n") + "\n"
}

fn mask_line(line: &str, host: &str) -> String {
    let words = |line: &str| {
        line.split_inclusive([' ', '"', ',', '/', '.', '|', '(', ')'])
            .map(|piece| {
                let word = piece.trim_end_matches([' ', '"', ',', '/', '.', '|', '(', ')']);
                let rest = &piece[word.len()..];
                let hex = word.chars().all(|c| c.is_ascii_hexdigit());
                let digest = hex && (word.len() == 64 || (word.len() >= 8 && word.len() <= 16));
                if digest { format!("DIGEST{rest}") } else { piece.to_owned() }
            })
            .collect::<String>()
    };
    let mut line = words(line).replace(host, "HOST");
    // A key changes with the code, and with it the folder that its record is in.
    if let Some(at) = line.find("records/")
        && line.get(at + 10..).is_some_and(|rest| rest.starts_with("/DIGEST"))
    {
        line.replace_range(at + 8..at + 10, "XX");
    }
    // `[3/5] task 0.0s`: which comes third is chance.
    if let Some((count, rest)) = line.strip_prefix('[').and_then(|l| l.split_once("] "))
        && count.contains('/')
    {
        line = format!("[n] {rest}");
    }
    mask_durations(&line)
}

/// How long something took, how old it is, how much memory or disk it takes.
fn mask_durations(line: &str) -> String {
    // The last line of a run says what was saved, where that was a second or more.
    if let Some((tasks, _)) = line.split_once(" failed | ") {
        return format!("{tasks} failed | TIME");
    }
    if let Some((before, _)) = line.split_once(".tar, ") {
        return format!("{before}.tar, SIZE");
    }
    if let Some((before, after)) = line.split_once(" on disk in ") {
        let files = before.split(" files, ").next().map_or("", |n| n);
        assert!(files.parse::<usize>().is_ok(), "{line}");
        return format!("N files, SIZE on disk in {after}");
    }
    if line.contains("peak memory") {
        return line.split("peak memory").next().unwrap_or_default().to_owned()
            + "peak memory  SIZE";
    }
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        if word.strip_suffix('s').is_some_and(|n| n.parse::<f64>().is_ok()) {
            *word = "TIME".to_owned();
        }
    }
    words.join(" ")
}
