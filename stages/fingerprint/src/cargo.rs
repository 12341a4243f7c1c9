//! What cargo says of a workspace: its members, and what a crate depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use super::Error;

/// The index that cargo uses if nothing else is said.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// How many characters of a checksum are kept: enough to tell two apart.
const CHECKSUM: usize = 16;

/// A workspace as cargo reads it.
#[derive(Debug)]
pub(super) struct Workspace {
    cargo: PathBuf,
    pub root: PathBuf,
    members: BTreeSet<String>,
    /// Its members, and other crates once they were asked for, by folder.
    packages: BTreeMap<PathBuf, Package>,
}

/// A crate that is there as a folder. What it inherits from its workspace is filled in.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Package {
    pub name: String,
    version: String,
    id: String,
    manifest_path: PathBuf,
    pub targets: Vec<Target>,
    dependencies: Vec<Declared>,
    features: BTreeMap<String, Value>,
    /// What the crate can see of itself at compile time, besides its name and version.
    edition: Value,
    authors: Value,
    description: Value,
    homepage: Value,
    repository: Value,
    license: Value,
    rust_version: Value,
}

/// A library, program or build script.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Target {
    kind: Vec<String>,
    pub src_path: PathBuf,
}

/// A dependency as a crate declares it.
#[derive(Debug, Clone, Deserialize)]
struct Declared {
    name: String,
    kind: Option<String>,
    features: Vec<String>,
    uses_default_features: bool,
}

/// A crate that another depends on, with one set of features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dependency {
    pub name: String,
    pub version: String,
    /// The folder of a workspace member or path dependency.
    pub folder: Option<PathBuf>,
    /// Separated by commas.
    pub features: String,
}

impl Target {
    /// Whether it can become part of a stage.
    pub fn is_built(&self) -> bool {
        !self.kind.iter().any(|kind| matches!(kind.as_str(), "test" | "bench" | "example"))
    }
}

impl Package {
    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    /// What Cargo.toml alone may not say, because the workspace's does.
    pub fn inherited(&self) -> String {
        let Self { edition, authors, description, homepage, repository, license, .. } = self;
        let rest = [edition, authors, description, homepage, repository, license];
        let rest: Vec<String> =
            rest.into_iter().chain([&self.rust_version]).map(Value::to_string).collect();
        format!("{} {}\n{}", self.name, self.version, rest.join("\n"))
    }

    /// Its features of which a build script sees these variables.
    fn features_on<'a>(&'a self, variables: &'a BTreeSet<String>) -> impl Iterator<Item = &'a str> {
        let variable = |name: &String| name.to_uppercase().replace('-', "_");
        let on = self.features.keys().filter(move |name| variables.contains(&variable(name)));
        on.map(String::as_str)
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

impl Workspace {
    /// The workspace of the crate in `folder`.
    pub fn of(cargo: &Path, folder: &Path) -> Result<Self, Error> {
        let Metadata { packages, workspace_root } = metadata(cargo, folder)?;
        let members = packages.iter().map(|package| package.id.clone()).collect();
        let packages = packages.into_iter().map(|p| (p.folder().to_path_buf(), p)).collect();
        Ok(Self { cargo: cargo.to_path_buf(), root: workspace_root, members, packages })
    }

    /// The crate in a folder, which need not be a member.
    pub fn package_in(&mut self, folder: &Path) -> Result<Package, Error> {
        if let Some(package) = self.packages.get(folder) {
            return Ok(package.clone());
        }
        let found = metadata(&self.cargo, folder)?.packages;
        self.packages.extend(found.into_iter().map(|p| (p.folder().to_path_buf(), p)));
        self.packages.get(folder).cloned().ok_or_else(|| {
            let what = format!("cargo finds no crate in {}", folder.display());
            Error::new(what, "list the crate under `members` of its workspace")
        })
    }

    /// What the paths of a crate begin with in the manifest.
    pub fn prefix(&self, dependency: &Dependency, folder: &Path) -> String {
        match folder.strip_prefix(&self.root) {
            Ok(inside) if inside.as_os_str().is_empty() => ".".to_owned(),
            Ok(inside) => super::sources::unix_path(inside),
            Err(_) => format!("{}-{}", dependency.name, dependency.version),
        }
    }

    /// Everything that a crate depends on when it is built for `target` with these features, itself first;
    /// `None` if the crate is not part of this workspace.
    pub fn tree(
        &self,
        package: &Package,
        variables: &BTreeSet<String>,
        target: &str,
    ) -> Result<Option<Vec<Dependency>>, Error> {
        let mut arguments: Vec<&str> =
            "tree --offline --locked --prefix none --charset ascii --color never --edges normal,build --format {p}\t{f}"
                .split(' ')
                .collect();
        arguments.extend(["--package", &package.id, "--target", target]);
        let features: Vec<&str> = package.features_on(variables).collect();
        let features = features.join(",");
        // The features of a crate that is no member follow from what the members ask of it.
        if self.members.contains(&package.id) {
            arguments.extend(["--no-default-features", "--features", &features]);
        }
        // This crate looks at the code, and is not part of it.
        let ours = env!("CARGO_PKG_NAME");
        let prune = ["--prune", ours];
        let mut said = run(&self.cargo, &self.root, arguments.iter().chain(&prune));
        if said.as_ref().is_err_and(|error| error.contains(&format!("`{ours}`"))) {
            // A build script need not get it from a crate of that name.
            said = run(&self.cargo, &self.root, &arguments);
        }
        match said {
            Ok(text) => text.lines().map(Dependency::parse).collect::<Result<_, _>>().map(Some),
            Err(error) if error.contains("did not match any packages") => Ok(None),
            Err(error) => {
                let help = if error.contains("--locked") {
                    "run `cargo update --workspace`, and build again"
                } else if error.contains("--offline") {
                    "run `cargo fetch`, and build again"
                } else {
                    "`cargo tree --offline --locked` must work in this workspace"
                };
                Err(Error::new(error, help))
            }
        }
    }

    /// Features of a crate that some member asks for, and that are in none of the sets: they are on if that
    /// member is built at the same time.
    pub fn features_asked_of(&self, name: &str, sets: &BTreeSet<&str>) -> Option<String> {
        let on: BTreeSet<&str> = sets.iter().flat_map(|set| set.split(',')).collect();
        // Only of a crate that is at hand is it known whether it has a feature `default`.
        let has_default =
            self.packages.values().any(|p| p.name == name && p.features.contains_key("default"));
        let members = self.packages.values().filter(|p| self.members.contains(&p.id));
        let declared = members
            .filter(|p| p.name != env!("CARGO_PKG_NAME"))
            .flat_map(|p| &p.dependencies)
            .filter(|d| d.name == name && d.kind.as_deref() != Some("dev"));
        let asked: BTreeSet<&str> = declared
            .flat_map(|d| {
                let default = (d.uses_default_features && has_default).then_some("default");
                d.features.iter().map(String::as_str).chain(default)
            })
            .filter(|feature| !on.contains(feature))
            .collect();
        let asked: Vec<&str> = asked.into_iter().collect();
        (!asked.is_empty()).then(|| format!("possibly {}", asked.join(",")))
    }
}

impl Dependency {
    /// Reads a line of `cargo tree`: `name v1.2.3 (proc-macro) (/folder or source)`, a separator, and the
    /// features.
    pub fn parse(line: &str) -> Result<Self, Error> {
        let parsed = || {
            let (package, features) = line.split_once('\t')?;
            let (name, rest) = package.split_once(" v")?;
            let (version, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let source = rest.strip_prefix("(proc-macro)").unwrap_or(rest).trim();
            let source = source.strip_prefix('(').and_then(|s| s.strip_suffix(')'));
            let folder = source.map(PathBuf::from).filter(|path| path.is_absolute());
            let features = features.trim_end().trim_end_matches("(*)").trim_end().to_owned();
            Some(Self { name: name.to_owned(), version: version.to_owned(), folder, features })
        };
        parsed().ok_or_else(|| {
            let what = format!("`cargo tree` prints a line that is not understood: {line:?}");
            Error::new(what, "build with the version of Rust that dissim names in its Cargo.toml")
        })
    }
}

fn metadata(cargo: &Path, folder: &Path) -> Result<Metadata, Error> {
    let manifest = folder.join("Cargo.toml");
    let arguments =
        ["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"];
    let arguments = arguments.iter().map(OsStr::new).chain([manifest.as_os_str()]);
    let help = "`cargo metadata --no-deps` must work in that folder";
    let text = run(cargo, folder, arguments).map_err(|error| Error::new(error, help))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::new(format!("what `cargo metadata` prints: {error}"), help))
}

/// What cargo prints, or the error that it prints.
fn run(
    cargo: &Path,
    folder: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<String, String> {
    let mut command = Command::new(cargo);
    // Clippy stands in for the compiler there, and a cache for it here; neither is wanted for a question.
    command.args(arguments).current_dir(folder);
    command.env_remove("RUSTC_WORKSPACE_WRAPPER").env_remove("RUSTC_WRAPPER");
    let output = command.output().map_err(|error| format!("{}: {error}", cargo.display()))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        // Before it cargo may say what it waits for.
        let error = error.find("error: ").map_or(&*error, |at| &error[at + "error: ".len()..]);
        let lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
        return Err(lines.collect::<Vec<_>>().join(" "));
    }
    String::from_utf8(output.stdout).map_err(|_| "cargo prints a path that is not UTF-8".to_owned())
}

/// Cargo.lock.
#[derive(Deserialize)]
pub(super) struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

impl Lock {
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|e| Error::reading(path, &e))?;
        toml::from_str(&text).map_err(|e| Error::reading(path, &e))
    }

    /// The version of a crate with all that says what its code is.
    pub fn pinned(&self, of: &Dependency) -> Result<String, Error> {
        let found = self.package.iter().filter(|p| p.name == of.name && p.version == of.version);
        let texts: BTreeSet<String> = found.map(Locked::text).collect();
        if texts.is_empty() {
            let what = format!("Cargo.lock does not have {} {}", of.name, of.version);
            return Err(Error::new(what, "run `cargo update --workspace`"));
        }
        Ok(texts.into_iter().collect::<Vec<_>>().join(" or "))
    }
}

impl Locked {
    fn text(&self) -> String {
        let mut text = self.version.clone();
        if let Some(source) = self.source.as_deref().filter(|source| *source != CRATES_IO) {
            text += &format!(" from {source}");
        }
        if let Some(checksum) = self.checksum.as_deref().and_then(|c| c.get(..CHECKSUM)) {
            text += &format!(" sha256:{checksum}");
        }
        text
    }
}
