//! A study that is disturbed, and how it ends without.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::support::{PIPELINE, Project, files};

/// A call that goes wrong.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// How, as tests/faults/shim.c names it.
    pub kind: &'static str,
    /// Which call, from 1.
    pub at: usize,
    /// Whether all that follow do too.
    pub sticky: bool,
}

/// Small programs, with files that several artifacts share, an executable one, and folders.
const SMALL: &str = r#"version: 1
name: faults
stages:
  one:
    kind: command
    with: { shell: "printf one > out; mkdir deep; printf same > deep/a; printf same > deep/b; cp /bin/true deep/run", outputs: [out, deep] }
  two:
    kind: command
    needs: { x: one }
    matrix: { seed: [0, 1] }
    with: { shell: "cat inputs/x/out > out; echo $DISSIM_MATRIX_SEED >> out; printf same > copy", outputs: [out, copy] }
  three:
    kind: command
    needs: { x: "two[*]" }
    with: { shell: "cat inputs/x/*/out > out", outputs: [out] }
"#;

/// A project, what it comes to undisturbed, and the store that it starts from.
pub struct Study {
    project: Project,
    /// Artifact by task.
    expected: BTreeMap<String, String>,
    /// Holds the store as it is before the first run.
    before: TempDir,
    empty: bool,
}

impl Study {
    /// A few programs; a run takes a blink.
    pub fn small() -> Self {
        Self::new(SMALL, true)
    }

    /// Every stage, on a slice of the real data, which is fetched already.
    pub fn real() -> Self {
        Self::new(PIPELINE, false)
    }

    /// One training of twelve epochs.
    pub fn training() -> Self {
        let (stages, _) = PIPELINE.split_once("  evaluate:").unwrap();
        let one = stages
            .replace("n_train: 1000", "n_train: 4000")
            .replace("epochs: 2", "epochs: 12")
            .replace("[erm, dissimilarity]", "[erm]")
            .replace(
                "      lambda:  { n_bg: [4], method: [dissimilarity], lambda: \"${lambdas}\" }\n",
                "",
            );
        Self::new(&one, false)
    }

    fn new(pipeline: &str, empty: bool) -> Self {
        let project = if empty { Project::empty() } else { Project::new() };
        project.write(pipeline);
        let before = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        if !empty {
            super::support::link_tree(&project.path().join("cache"), &before.path().join("cache"));
        }
        let mut study = Self { project, expected: BTreeMap::new(), before, empty };
        assert_eq!(wait(&mut study.start()), Some(0), "{}", study.told());
        study.expected = study.artifacts();
        assert!(study.expected.len() >= 3);
        study
    }

    pub fn path(&self) -> &Path {
        self.project.path()
    }

    /// The store as it was before the first run.
    pub fn fresh(&self) {
        let cache = self.path().join("cache");
        fs::remove_dir_all(&cache).unwrap();
        if !self.empty {
            super::support::link_tree(&self.before.path().join("cache"), &cache);
        }
    }

    pub fn dissim(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dissim"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    fn run_command(&self) -> Command {
        let said = File::create(self.before.path().join("said")).unwrap();
        let jobs = if self.empty { "1" } else { "2" };
        let mut command = self.dissim(&["run", "--jobs", jobs]);
        command.stdout(Stdio::null()).stderr(said);
        command
    }

    /// A run, on its way.
    pub fn start(&self) -> Child {
        self.run_command().spawn().unwrap()
    }

    /// What the last run said on stderr.
    pub fn told(&self) -> String {
        let bytes = fs::read(self.before.path().join("said")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How long a run takes.
    pub fn takes(&self) -> Duration {
        let start = Instant::now();
        assert_eq!(wait(&mut self.start()), Some(0));
        start.elapsed()
    }

    /// A run in which a call goes wrong; its exit code.
    pub fn run_with(&self, fault: Fault) -> Option<i32> {
        wait(&mut self.shimmed(fault).spawn().unwrap())
    }

    /// How many calls there are that can go wrong.
    pub fn count_calls(&self) -> usize {
        self.fresh();
        let fault = Fault { kind: "none", at: 0, sticky: false };
        assert_eq!(self.run_with(fault), Some(0), "{}", self.told());
        let bytes = fs::read(self.before.path().join("counter")).unwrap();
        usize::try_from(i64::from_ne_bytes(bytes.try_into().unwrap())).unwrap()
    }

    fn shimmed(&self, fault: Fault) -> Command {
        let counter = self.before.path().join("counter");
        fs::write(&counter, 0_i64.to_ne_bytes()).unwrap();
        let mut command = self.run_command();
        command
            .env("LD_PRELOAD", shim())
            .env("FAULT_ROOT", self.path().canonicalize().unwrap())
            .env("FAULT_COUNTER", counter)
            .env("FAULT_KIND", fault.kind)
            .env("FAULT_AT", fault.at.to_string());
        if fault.sticky {
            command.env("FAULT_STICKY", "1");
        }
        command
    }

    /// Nothing in the store is damaged, and no record is without its artifact.
    pub fn is_sound(&self, when: &str) {
        let output = self.dissim(&["cache", "verify"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{when}\n{said}{}", self.told());
        assert!(!said.contains("runs again"), "a record without its artifact {when}\n{said}");
        for (task, artifact) in self.artifacts() {
            let expected = self.expected.get(&task).expect("a task of the study");
            assert_eq!(&artifact, expected, "{task} {when}");
        }
    }

    /// Every task has the artifact of the undisturbed run.
    pub fn is_complete(&self, when: &str) {
        assert_eq!(self.artifacts(), self.expected, "{when}");
    }

    /// A run without faults ends as the undisturbed one did, and leaves nothing behind.
    pub fn completes(&self, when: &str) {
        assert_eq!(wait(&mut self.start()), Some(0), "{when}\n{}", self.told());
        self.is_sound(when);
        self.is_complete(when);
        let cache = self.path().join("cache");
        let names = |folder: &str| -> Vec<PathBuf> { files(&cache.join(folder)) };
        assert_eq!(names("tmp"), [] as [PathBuf; 0], "{when}");
        assert_eq!(names("locks"), [cache.join("locks/use")], "{when}");
        assert!(!cache.join("quarantine").exists(), "{when}");
        let folders = fs::read_dir(cache.join("tmp")).unwrap().flatten();
        let folders: Vec<_> = folders.map(|e| e.file_name()).filter(|n| n != "scratch").collect();
        assert!(folders.is_empty(), "{when}: {folders:?}");
        let scratch = fs::read_dir(cache.join("tmp/scratch")).into_iter().flatten().count();
        assert_eq!(scratch, 0, "{when}");
    }

    /// The artifact of every record, by task.
    fn artifacts(&self) -> BTreeMap<String, String> {
        let read = |path: PathBuf| {
            let record: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            let text = |name: &str| record[name].as_str().unwrap().to_owned();
            (text("task"), text("artifact"))
        };
        files(&self.path().join("cache/records")).into_iter().map(read).collect()
    }
}

/// The exit code; a run that takes minutes hangs.
pub fn wait(run: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = run.try_wait().unwrap() {
            return status.code();
        }
        assert!(start.elapsed() < Duration::from_secs(300), "the run hangs");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// The tasks that a runner has started: not git, which it asks too and whose end it leaves for later.
pub fn tasks_of(runner: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{runner}/task")).into_iter().flatten().flatten();
    let read = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).ok();
    let lists: Vec<String> = threads.filter_map(read).collect();
    let children =
        lists.iter().flat_map(|l| l.split_whitespace()).filter_map(|pid| pid.parse().ok());
    let is_task = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"task".as_slice())
    };
    children.filter(is_task).collect()
}

/// Kills a process; false where it is gone already.
pub fn kill(process: u32) -> bool {
    signal::kill(Pid::from_raw(process.try_into().unwrap()), Signal::SIGKILL).is_ok()
}

/// The library that makes calls fail, compiled once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fault-shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(command.status().expect("a C compiler").success());
        library
    })
}
