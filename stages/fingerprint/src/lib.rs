//! The code of a stage as an input: what a stage crate is compiled from, as one manifest.
//!
//! A manifest has one line for every source file of the crate and of the workspace crates it
//! uses (`stages/train/src/lib.rs -> blake3`), and one for every third-party crate it can reach
//! (`burn -> 0.22.1`), as Cargo.lock pins it. Development dependencies of workspace crates are
//! left out: they cannot change what a stage computes. A stage's `build.rs` calls [`bake`]; the
//! manifest lands in the crate as JSON and `dissim_api::code!()` reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use serde::Deserialize;
use walkdir::WalkDir;

/// Name of the file that [`bake`] writes to `OUT_DIR`.
pub const BAKED: &str = "code.json";

/// Called from a stage's `build.rs`: writes the manifest of the crate being built to
/// `$OUT_DIR/code.json`, and tells cargo to do so again when any file in it changes.
///
/// # Panics
/// When the workspace cannot be read; a build script has no better way to say so.
pub fn bake() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let name = env::var("CARGO_PKG_NAME").expect("cargo sets it");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let workspace = find_workspace(&root).expect("a Cargo.lock above the crate");
    let code = manifest(&workspace, &name)
        .unwrap_or_else(|e| panic!("cannot fingerprint {name} under {}: {e}", workspace.display()));
    for directory in &code.directories {
        println!("cargo::rerun-if-changed={}", directory.display());
    }
    println!("cargo::rerun-if-changed={}", workspace.join("Cargo.lock").display());
    fs::write(out.join(BAKED), serde_json::to_string(&code.entries).expect("strings"))
        .expect("OUT_DIR is writable");
}

/// What a crate is compiled from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Source path relative to the workspace, or the name of a third-party crate, to a blake3
    /// digest or to the versions in use.
    pub entries: BTreeMap<String, String>,
    /// The directories whose files were read.
    pub directories: Vec<PathBuf>,
}

/// The manifest of workspace crate `name`, read from the workspace at `workspace`.
///
/// # Errors
/// When a manifest, Cargo.lock or a source cannot be read or parsed, or `name` is not in it.
pub fn manifest(workspace: &Path, name: &str) -> io::Result<Manifest> {
    let lock: Lock = parse(&workspace.join("Cargo.lock"))?;
    let members = members(workspace)?;
    let mut entries = BTreeMap::new();
    let mut directories = Vec::new();
    let mut queue = vec![name.to_owned()];
    let mut seen: BTreeSet<String> = queue.iter().cloned().collect();
    let mut outside: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    while let Some(next) = queue.pop() {
        let (package, version) = split_dependency(&next);
        let depends = match members.get(package) {
            Some(directory) => {
                for file in sources(directory)? {
                    let relative = file.strip_prefix(workspace).unwrap_or(&file);
                    let digest = blake3::hash(&fs::read(&file)?);
                    entries.insert(unix_path(relative), digest.to_hex().to_string());
                }
                directories.push(directory.clone());
                let used = used_dependencies(directory)?;
                let mut depends = lock.dependencies(package, version);
                depends.retain(|d| used.contains(split_dependency(d).0));
                // A renamed dependency would otherwise drop out of the key without a word.
                if depends.len() < used.len() {
                    let why = format!("{package}: a dependency is missing from Cargo.lock");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                depends
            }
            None => {
                for version in lock.versions(package, version) {
                    outside.entry(package.to_owned()).or_default().insert(version);
                }
                lock.dependencies(package, version)
            }
        };
        queue.extend(depends.into_iter().filter(|d| seen.insert(d.clone())));
    }
    if directories.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("no workspace crate `{name}`"),
        ));
    }
    for (package, versions) in outside {
        entries.insert(package, versions.into_iter().collect::<Vec<_>>().join(", "));
    }
    directories.sort();
    Ok(Manifest { entries, directories })
}

/// The nearest folder at or above `start` that holds a Cargo.lock.
#[must_use]
pub fn find_workspace(start: &Path) -> Option<PathBuf> {
    start.ancestors().find(|d| d.join("Cargo.lock").is_file()).map(Path::to_path_buf)
}

/// Cargo.toml, build.rs and everything under src/: what rustc can read of a crate.
fn sources(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = vec![directory.join("Cargo.toml")];
    files.extend(Some(directory.join("build.rs")).filter(|f| f.is_file()));
    for entry in WalkDir::new(directory.join("src")).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Every workspace crate by package name: the folders under stages/.
fn members(workspace: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in WalkDir::new(workspace.join("stages")).min_depth(1).max_depth(1) {
        let directory = entry?.into_path();
        if directory.join("Cargo.toml").is_file() {
            let cargo: CargoToml = parse(&directory.join("Cargo.toml"))?;
            found.insert(cargo.package.name, directory);
        }
    }
    Ok(found)
}

/// The packages a workspace crate really links: `[dependencies]`, not the development ones.
fn used_dependencies(directory: &Path) -> io::Result<BTreeSet<String>> {
    let cargo: CargoToml = parse(&directory.join("Cargo.toml"))?;
    Ok(cargo.dependencies.into_keys().collect())
}

/// `"windows-sys 0.59.0"` in Cargo.lock means one of several versions; a bare name the only one.
fn split_dependency(entry: &str) -> (&str, Option<&str>) {
    let mut words = entry.split(' ');
    (words.next().unwrap_or_default(), words.next())
}

fn unix_path(path: &Path) -> String {
    path.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<T> {
    let invalid = |e: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display()))
    };
    let text = fs::read_to_string(path).map_err(|e| invalid(&e))?;
    toml::from_str(&text).map_err(|e| invalid(&e))
}

#[derive(Deserialize)]
struct CargoToml {
    package: CargoPackage,
    #[serde(default)]
    dependencies: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
struct CargoPackage {
    name: String,
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<LockPackage>,
}

#[derive(Deserialize)]
struct LockPackage {
    name: String,
    version: String,
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Lock {
    fn find<'a>(
        &'a self,
        name: &'a str,
        version: Option<&'a str>,
    ) -> impl Iterator<Item = &'a LockPackage> {
        self.package
            .iter()
            .filter(move |p| p.name == name && version.is_none_or(|v| p.version == v))
    }

    fn versions(&self, name: &str, version: Option<&str>) -> Vec<String> {
        self.find(name, version).map(|p| p.version.clone()).collect()
    }

    fn dependencies(&self, name: &str, version: Option<&str>) -> Vec<String> {
        self.find(name, version).flat_map(|p| p.dependencies.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace of two stages and one shared crate, in a folder of its own.
    fn workspace() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (name, uses) in [("api", ""), ("a", "api = {}\nburn = {}"), ("b", "api = {}")] {
            write(
                &format!("stages/{name}/Cargo.toml"),
                &format!(
                    "[package]\nname = \"{name}\"\n[dependencies]\n{uses}\n[dev-dependencies]\nproptest = {{}}\n"
                ),
            );
            write(&format!("stages/{name}/src/lib.rs"), "//! text\n");
        }
        write(
            "Cargo.lock",
            r#"
[[package]]
name = "api"
version = "0.1.0"
[[package]]
name = "a"
version = "0.1.0"
dependencies = ["api", "burn", "proptest"]
[[package]]
name = "b"
version = "0.1.0"
dependencies = ["api", "proptest"]
[[package]]
name = "burn"
version = "0.22.1"
dependencies = ["half 2.0.0"]
[[package]]
name = "half"
version = "1.0.0"
[[package]]
name = "half"
version = "2.0.0"
[[package]]
name = "proptest"
version = "1.0.0"
"#,
        );
        dir
    }

    #[test]
    fn names_every_source_and_the_pinned_versions() {
        let dir = workspace();
        let code = manifest(dir.path(), "a").unwrap();
        let names: Vec<_> = code.entries.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "burn",
                "half",
                "stages/a/Cargo.toml",
                "stages/a/src/lib.rs",
                "stages/api/Cargo.toml",
                "stages/api/src/lib.rs"
            ]
        );
        assert_eq!(code.entries["half"], "2.0.0");
    }

    #[test]
    fn a_comment_changes_the_crate_and_its_users_only() {
        let dir = workspace();
        let before = ["a", "b"].map(|n| manifest(dir.path(), n).unwrap());
        fs::write(dir.path().join("stages/a/src/lib.rs"), "//! text, mended\n").unwrap();
        let after = ["a", "b"].map(|n| manifest(dir.path(), n).unwrap());
        assert_ne!(before[0], after[0]);
        assert_eq!(before[1], after[1]);
        fs::write(dir.path().join("stages/api/src/lib.rs"), "//! text, mended\n").unwrap();
        assert_ne!(after[1], manifest(dir.path(), "b").unwrap());
    }

    #[test]
    fn a_crate_that_is_not_there_is_an_error() {
        let error = manifest(workspace().path(), "absent").unwrap_err();
        assert_eq!(error.to_string(), "no workspace crate `absent`");
    }
}
