//! A project folder with a pipeline of small programs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

/// A user and group without rights: `nobody`.
pub const NOBODY: u32 = 65_534;

/// A project folder; it is removed at the end of the test.
pub struct Study {
    folder: TempDir,
}

impl Study {
    /// A project whose pipeline has these `stages:`, indented by two spaces.
    pub fn new(stages: &str) -> Self {
        Self::with_head("", stages)
    }

    /// The same with more keys before `stages:`.
    pub fn with_head(head: &str, stages: &str) -> Self {
        let study = Self { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        let lines: String = stages.lines().map(|line| format!("  {line}\n")).collect();
        study.write("pipeline.yaml", &format!("version: 1\nname: x\n{head}\nstages:\n{lines}"));
        study
    }

    /// The project's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the project.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a file of the project.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap()
    }

    /// Replaces a text in pipeline.yaml that must be there.
    pub fn edit(&self, old: &str, new: &str) {
        let text = self.read("pipeline.yaml");
        assert!(text.contains(old), "`{old}` is not in\n{text}");
        self.write("pipeline.yaml", &text.replace(old, new));
    }

    /// The command `dissim` with these arguments in the project.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dissim"));
        command.args(arguments).current_dir(self.path());
        command
    }

    /// Runs `dissim` and returns what came of it.
    pub fn dissim(&self, arguments: &[&str]) -> Told {
        Told::of(self.command(arguments).output().unwrap())
    }

    /// The same as `nobody`, who may use what the modes of files allow.
    pub fn dissim_as_nobody(&self, arguments: &[&str]) -> Told {
        let mut command = Command::new(program_for_all());
        command.args(arguments).current_dir(self.path()).env("HOME", "/tmp");
        // Whoever is not root has no rights to drop, and is told what the modes of files allow.
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        Told::of(command.output().unwrap())
    }

    /// The bytes of a file of a task's artifact.
    pub fn output(&self, task: &str, file: &str) -> String {
        let shown = self.dissim(&["show", task, "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}{}", shown.stdout, shown.stderr));
        let digest = find_digest(&shown, file).unwrap_or_else(|| panic!("no `{file}` in {shown}"));
        self.read(&format!("cache/objects/{}/{digest}", &digest[..2]))
    }
}

/// The digest of a file in what `show --json` prints.
fn find_digest(value: &serde_json::Value, file: &str) -> Option<String> {
    match value {
        serde_json::Value::Object(map) => match map.get(file).and_then(|entry| entry.get("digest"))
        {
            Some(digest) => digest.as_str().map(str::to_owned),
            None => map.values().find_map(|inner| find_digest(inner, file)),
        },
        serde_json::Value::Array(items) => items.iter().find_map(|inner| find_digest(inner, file)),
        _ => None,
    }
}

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Told {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

impl Told {
    pub fn of(output: Output) -> Self {
        Self {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        }
    }

    /// Fails the test where the command did not end with this code.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }

    /// How many tasks a run computed and how many were hits.
    #[track_caller]
    pub fn counts(&self) -> (usize, usize) {
        let last = self.stdout.lines().last().unwrap_or_default();
        let count = |word: &str| {
            let part =
                last.split([',', '|', ':']).map(str::trim).find_map(|p| p.strip_suffix(word));
            part.and_then(|n| n.trim().parse().ok())
        };
        match (count(" ran"), count(" cached")) {
            (Some(ran), Some(cached)) => (ran, cached),
            _ => panic!("no counts in `{last}`\n{}", self.stderr),
        }
    }
}

/// The binary where every user may run it: the target folder may be its owner's alone.
fn program_for_all() -> &'static Path {
    static PROGRAM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("dissim");
        fs::copy(env!("CARGO_BIN_EXE_dissim"), &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        (folder, program)
    });
    program
}

/// Waits until `done`, or fails the test.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Whether a process runs whose command line has this text.
pub fn runs(text: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|p| p.file_name().to_str().is_some_and(|n| n.parse::<u32>().is_ok())).any(
        |p| {
            let line = fs::read(p.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        },
    )
}
