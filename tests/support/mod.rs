//! Projects for tests that run the binary: on a slice of the real data, or of small programs.

#![allow(dead_code, unused_imports, reason = "every test binary uses its own part")]

pub mod group;
pub mod s3;
mod small;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;
use walkdir::WalkDir;

pub use small::{SAY, SMALL, Small, files, run_words, sealed};

/// The study in miniature: every stage, every split, a few seconds.
pub const PIPELINE: &str = r#"
version: 1
name: slice
params: { seeds: [0], n_bg: [4], lambdas: [0.5, 1.25] }
stages:
  digits:      { kind: fetch, with: { dataset: mnist } }
  backgrounds: { kind: fetch, with: { dataset: cifar10 } }
  dataset:
    kind: dataset
    needs: { digits: digits, backgrounds: backgrounds }
    matrix: { n_bg: "${n_bg}", seed: "${seeds}" }
    with: { n_train: 1000, n_val: 200, n_test: 400 }
  train:
    kind: train
    needs: { data: dataset }
    sweeps:
      methods: { n_bg: "${n_bg}", method: [erm, dissimilarity], lambda: [1.25] }
      lambda:  { n_bg: [4], method: [dissimilarity], lambda: "${lambdas}" }
    with: { epochs: 2 }
  evaluate: { kind: evaluate, needs: { model: train, data: dataset } }
  results:  { kind: aggregate, needs: { runs: "evaluate[*]" } }
  report:   { kind: report, needs: { results: results, samples: "dataset[*]" } }
"#;

/// A project folder of its own, with the real data already fetched.
pub struct Project {
    /// Removed at the end of the test.
    pub folder: TempDir,
}

impl Project {
    /// A project with [`PIPELINE`].
    pub fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        link_tree(&fetched().join("cache"), &folder.path().join("cache"));
        let project = Self { folder };
        project.write(PIPELINE);
        project
    }

    /// A project without a store.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces pipeline.yaml.
    pub fn write(&self, pipeline: &str) {
        fs::write(self.path().join("pipeline.yaml"), pipeline).unwrap();
    }

    /// Runs `dissim` with these arguments, split at spaces, in the project.
    pub fn dissim(&self, arguments: &str) -> Output {
        dissim(self.path(), arguments)
    }

    /// The same, but it must succeed; returns stdout.
    pub fn succeed(&self, arguments: &str) -> String {
        let output = self.dissim(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "dissim {arguments}\n{stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// How many tasks a run computes, by its last line.
    pub fn ran(&self, arguments: &str) -> usize {
        let stdout = self.succeed(arguments);
        let last = stdout.lines().last().unwrap_or_default();
        let count = last.split(", ").find_map(|part| part.strip_suffix(" ran"));
        count.and_then(|c| c.parse().ok()).unwrap_or_else(|| panic!("no count in `{last}`"))
    }
}

/// Runs the binary in `folder`.
fn dissim(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dissim"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("the binary was built with the tests")
}

/// A project that holds MNIST and CIFAR-10 in its store; fetched once, kept for later test runs.
fn fetched() -> &'static Path {
    static FETCHED: OnceLock<PathBuf> = OnceLock::new();
    FETCHED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real-data");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("pipeline.yaml"), PIPELINE).unwrap();
        let output = dissim(&folder, "run digits backgrounds");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the real data cannot be fetched\n{stderr}");
        folder
    })
}

/// A copy of a store. What runs leave behind stays behind. Blobs are copied, not linked: another link changes what
/// `stat` says of a blob, and a task that reads it would take it for written.
pub fn link_tree(from: &Path, to: &Path) {
    for entry in WalkDir::new(from) {
        let entry = entry.unwrap();
        let relative = entry.path().strip_prefix(from).unwrap();
        if relative.starts_with("tmp") || relative.starts_with("locks") {
            continue;
        }
        let target = to.join(relative);
        if entry.file_type().is_dir() {
            fs::create_dir_all(target).unwrap();
        } else {
            let blob = relative.starts_with("objects");
            if blob {
                fs::copy(entry.path(), target).map(drop)
            } else {
                fs::hard_link(entry.path(), target)
            }
            .unwrap();
        }
    }
}
