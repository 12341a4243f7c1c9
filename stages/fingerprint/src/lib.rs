//! The code of a stage as an input: what a stage crate is compiled from, as one manifest.
//!
//! Cargo itself is asked what the crate being built depends on, with its features, for its target, and as
//! Cargo.lock pins it. The manifest then has
//!
//! - one entry per file of every crate that is there as a folder, that is, of workspace members and of path
//!   dependencies (`stages/train/src/lib.rs -> blake3`), wherever the folder is;
//! - one entry per other crate (`burn -> 0.22.1`, with its checksum or git revision), and one for its features;
//! - the settings that change what the compiler makes of it (`profile`, `rustflags`).
//!
//! Paths are relative to the workspace, or begin with `NAME-VERSION/` outside it, so that equal code has an
//! equal manifest wherever it is. The names of files contain a slash; all other names do not. Development
//! dependencies are left out: they cannot change what a stage computes. So is this crate, which only
//! looks. Nothing else is left out: if something cannot be found, the build fails.
//!
//! Two things are out of a build script's sight: settings on cargo's command line (`--config`), and features
//! that another package of the same build turns on further down than the workspace's own manifests.
//!
//! A stage's `build.rs` calls [`bake`]; the manifest lands in the crate as JSON, and `dissim_api::code!()`
//! reads it.

mod cargo;
mod settings;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use cargo::{Dependency, Lock, Package, Workspace};

/// Name of the file that [`bake`] writes to `OUT_DIR`.
pub const BAKED: &str = "code.json";

/// Writes the manifest of the crate being built to `$OUT_DIR/code.json`, and tells cargo to do so again when
/// anything in it changes. For a stage's `build.rs`.
///
/// If the manifest cannot be made, the build fails with an error that says why.
///
/// # Panics
/// Panics if it is not called by a build script, or if `OUT_DIR` cannot be written.
pub fn bake() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    match Build::of_this_script().manifest() {
        Ok(code) => {
            for path in &code.watched {
                println!("cargo::rerun-if-changed={}", path.display());
            }
            for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"] {
                println!("cargo::rerun-if-env-changed={variable}");
            }
            let json = serde_json::to_string(&code.entries).expect("strings serialise");
            fs::write(out.join(BAKED), json).expect("OUT_DIR is writable");
        }
        Err(error) => {
            let name = env::var("CARGO_PKG_NAME").unwrap_or_default();
            println!("cargo::error=cannot fingerprint the code of `{name}`: {}", error.what);
            error.help.lines().for_each(|line| println!("cargo::error=help: {line}"));
        }
    }
}

/// What a crate is compiled from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The path of a source and its blake3 digest, the name of a crate and its versions, or the name of a
    /// setting and its value.
    pub entries: BTreeMap<String, String>,
    /// Files and folders whose changes may change the entries.
    pub watched: BTreeSet<PathBuf>,
}

/// Why there is no manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What happened.
    pub what: String,
    /// What to do, possibly in several lines.
    pub help: String,
}

impl Error {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }

    /// A file that cannot be read.
    fn reading(path: &Path, error: &dyn std::fmt::Display) -> Self {
        let what = format!("{}: {error}", path.display());
        Self::new(what, "make the file readable, or remove it if nothing needs it")
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nhelp: {}", self.what, self.help)
    }
}

impl std::error::Error for Error {}

/// What cargo tells a build script of the build.
#[derive(Debug, Clone)]
struct Build {
    /// The program `cargo`.
    cargo: PathBuf,
    /// The folder of the crate being built.
    folder: PathBuf,
    target: String,
    /// Its features as in the names of variables: in capitals, with `_` for `-`.
    features: BTreeSet<String>,
    /// Folders that may be in the workspace being built, if that is not the crate's own.
    hints: Vec<PathBuf>,
    compiler: settings::Compiler,
}

impl Build {
    fn of_this_script() -> Self {
        let text = |name: &str| env::var(name).unwrap_or_default();
        let path = |name: &str| env::var_os(name).map(PathBuf::from);
        let features = env::vars()
            .filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(str::to_owned));
        Self {
            cargo: path("CARGO").expect("cargo sets CARGO"),
            folder: path("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"),
            target: text("TARGET"),
            features: features.collect(),
            hints: ["OUT_DIR", "PWD"].into_iter().filter_map(path).collect(),
            compiler: settings::Compiler::of_this_script(),
        }
    }

    fn manifest(&self) -> Result<Manifest, Error> {
        let (mut workspace, package, tree) = self.resolve()?;
        let lock = Lock::read(&workspace.root.join("Cargo.lock"))?;
        let mut entries = BTreeMap::new();
        let mut watched =
            BTreeSet::from([workspace.root.join("Cargo.lock"), workspace.root.join("Cargo.toml")]);
        let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let mut features: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut prefixes = BTreeSet::new();
        for dependency in &tree {
            let name = dependency.name.as_str();
            if features.entry(name).or_default().insert(&dependency.features)
                && let Some(folder) = &dependency.folder
            {
                let prefix = workspace.prefix(dependency, folder);
                if prefixes.insert(prefix.clone()) {
                    let package = workspace.package_in(folder)?;
                    let found = sources::of(&package, &prefix, *folder == workspace.root)?;
                    entries.extend(found.entries);
                    watched.extend(found.watched);
                }
            }
            if dependency.folder.is_none() {
                let pinned = lock.pinned(dependency)?;
                versions.entry(name).or_default().insert(pinned);
            }
        }
        let joined = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(", ");
        let all = versions.into_iter().map(|(name, set)| (name.to_owned(), joined(set)));
        entries.extend(all);
        for (name, sets) in features {
            let more = workspace.features_asked_of(name, &sets);
            let sets = sets.into_iter().filter(|set| !set.is_empty()).map(str::to_owned);
            let text = sets.chain(more).collect::<Vec<_>>().join("; ");
            if !text.is_empty() {
                entries.insert(format!("{name} features"), text);
            }
        }
        let settings = settings::of(&self.compiler, &workspace.root)?;
        entries.extend(settings.entries);
        watched.extend(settings.watched);
        if !entries.keys().any(|name| name.contains('/')) && tree[0].folder.is_some() {
            let what = format!("no source of `{}` was found", package.name);
            return Err(Error::new(what, "please report this as a fault of dissim"));
        }
        Ok(Manifest { entries, watched })
    }

    /// The workspace being built, the crate being built, and everything that the crate depends on, itself
    /// first.
    fn resolve(&self) -> Result<(Workspace, Package, Vec<Dependency>), Error> {
        let mut own = Workspace::of(&self.cargo, &self.folder)?;
        let package = own.package_in(&self.folder)?;
        // A crate may be built as a dependency of another workspace: its Cargo.lock counts then.
        for hint in &self.hints {
            let locked = |folder: &&Path| {
                folder.join("Cargo.lock").is_file() && folder.join("Cargo.toml").is_file()
            };
            let Some(root) = hint.ancestors().find(locked) else { continue };
            if root == own.root {
                break;
            }
            let Ok(other) = Workspace::of(&self.cargo, root) else { continue };
            if let Some(tree) = other.tree(&package, &self.features, &self.target)? {
                return Ok((other, package, tree));
            }
        }
        match own.tree(&package, &self.features, &self.target)? {
            Some(tree) => Ok((own, package, tree)),
            None => {
                let what = format!("cargo does not find it in {}", own.root.display());
                let help =
                    "list the crate under `members` of the workspace, or take it out of `exclude`";
                Err(Error::new(what, help))
            }
        }
    }
}

#[cfg(test)]
mod tests;
