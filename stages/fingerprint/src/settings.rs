//! Settings that change what the compiler makes of the same sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use toml::{Table, Value};

use super::Error;

/// Settings of a profile that do not change what a program computes.
const COSMETIC: [&str; 7] = [
    "debug",
    "split-debuginfo",
    "strip",
    "incremental",
    "rpath",
    "codegen-units",
    "build-override",
];
/// Codegen options that do not change what a program computes.
const COSMETIC_CODEGEN: [&str; 12] = [
    "codegen-units",
    "debuginfo",
    "extra-filename",
    "incremental",
    "linker",
    "linker-flavor",
    "link-arg",
    "link-args",
    "metadata",
    "rpath",
    "split-debuginfo",
    "strip",
];
/// Flags of rustc that take the next argument along and do not change what a program computes.
const COSMETIC_FLAGS: [&str; 16] = [
    "-L",
    "-l",
    "-A",
    "-W",
    "-D",
    "-F",
    "--allow",
    "--warn",
    "--deny",
    "--forbid",
    "--cap-lints",
    "--check-cfg",
    "--color",
    "--diagnostic-width",
    "--error-format",
    "--remap-path-prefix",
];

/// What cargo tells a build script of the compiler.
#[derive(Debug, Clone, Default)]
pub(super) struct Compiler {
    /// `release` or `debug`.
    pub profile: String,
    pub opt_level: String,
    pub flags: Vec<String>,
    /// What the processor is taken to have.
    pub target_features: String,
    /// Variables that set a part of a profile.
    pub variables: BTreeMap<String, String>,
    /// The folder of cargo's own settings.
    pub home: Option<PathBuf>,
}

pub(super) struct Settings {
    pub entries: BTreeMap<String, String>,
    pub watched: BTreeSet<PathBuf>,
}

impl Compiler {
    pub fn of_this_script() -> Self {
        let text = |name: &str| env::var(name).unwrap_or_default();
        let flags = text("CARGO_ENCODED_RUSTFLAGS");
        let flags = flags.split('\u{1f}').filter(|flag| !flag.is_empty());
        Self {
            profile: text("PROFILE"),
            opt_level: text("OPT_LEVEL"),
            flags: flags.map(str::to_owned).collect(),
            target_features: text("CARGO_CFG_TARGET_FEATURE"),
            variables: env::vars().filter(|(name, _)| name.starts_with("CARGO_PROFILE_")).collect(),
            home: env::var_os("CARGO_HOME")
                .map(PathBuf::from)
                .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"))),
        }
    }
}

/// The settings of a build of the workspace at `root`.
pub(super) fn of(compiler: &Compiler, root: &Path) -> Result<Settings, Error> {
    let mut entries = BTreeMap::new();
    let mut watched = BTreeSet::new();
    let profile = format!("{}, opt-level {}", compiler.profile, compiler.opt_level);
    entries.insert("profile".to_owned(), profile);
    let mut all = Table::new();
    if let Some(profiles) = read(&root.join("Cargo.toml"))?.remove("profile") {
        merge(&mut all, Table::from_iter([("profile".to_owned(), profiles)]));
    }
    // The nearest settings count most.
    let folders = root.ancestors().map(|folder| folder.join(".cargo")).collect::<Vec<_>>();
    for folder in compiler.home.iter().chain(folders.iter().rev()) {
        let names = ["config", "config.toml"].map(|name| folder.join(name));
        let Some(path) = names.into_iter().find(|path| path.is_file()) else { continue };
        let settings = read(&path)?;
        let ours = settings.into_iter().filter(|(name, _)| name == "profile" || name == "env");
        merge(&mut all, ours.collect());
        watched.insert(path);
    }
    let table = |name: &str| all.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
    let profiles = table("profile");
    for (name, settings) in &profiles {
        if base(&profiles, name) != compiler.profile {
            continue;
        }
        let settings = without_cosmetic(settings);
        if settings.as_table().is_some_and(|table| !table.is_empty()) {
            entries.insert(format!("profile {name}"), json(&settings));
        }
    }
    for (name, value) in &table("env") {
        // The value may be a secret.
        let digest = blake3::hash(json(value).as_bytes()).to_hex();
        entries.insert(format!("env {name}"), digest[..16].to_owned());
    }
    let other = match compiler.profile.as_str() {
        "release" => ["CARGO_PROFILE_DEV_", "CARGO_PROFILE_TEST_"],
        _ => ["CARGO_PROFILE_RELEASE_", "CARGO_PROFILE_BENCH_"],
    };
    for (name, value) in &compiler.variables {
        let cosmetic = |setting: &str| {
            name.ends_with(&format!("_{}", setting.to_uppercase().replace('-', "_")))
        };
        if !COSMETIC.iter().any(|s| cosmetic(s)) && !other.iter().any(|o| name.starts_with(o)) {
            entries.insert(name.clone(), value.clone());
        }
    }
    let flags = meaningful(&compiler.flags);
    if flags.iter().any(|flag| flag.contains("target-cpu")) {
        // `native` is another one on another machine.
        entries.insert("target features".to_owned(), compiler.target_features.clone());
    }
    if !flags.is_empty() {
        let here = format!("{}/", root.display());
        entries.insert("rustflags".to_owned(), flags.join(" ").replace(&here, ""));
    }
    Ok(Settings { entries, watched })
}

/// The flags that may change what a program computes.
fn meaningful(flags: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = flags.iter().map(String::as_str);
    while let Some(flag) = rest.next() {
        let name = flag.split('=').next().unwrap_or(flag);
        if COSMETIC_FLAGS.contains(&flag) {
            rest.next();
        } else if COSMETIC_FLAGS.contains(&name)
            || COSMETIC_FLAGS[..6].iter().any(|short| flag.starts_with(short))
        {
            // The value is in the same argument.
        } else if flag == "-C" || flag == "--codegen" {
            kept.extend(
                rest.next().filter(|option| !is_cosmetic(option)).map(|o| format!("-C{o}")),
            );
        } else if let Some(option) =
            flag.strip_prefix("-C").or_else(|| flag.strip_prefix("--codegen="))
        {
            kept.extend((!is_cosmetic(option)).then(|| format!("-C{option}")));
        } else {
            kept.push(flag.to_owned());
        }
    }
    kept
}

fn is_cosmetic(option: &str) -> bool {
    COSMETIC_CODEGEN.contains(&option.split('=').next().unwrap_or(option))
}

fn read(path: &Path) -> Result<Table, Error> {
    let text = fs::read_to_string(path).map_err(|e| Error::reading(path, &e))?;
    toml::from_str(&text).map_err(|e| Error::reading(path, &e))
}

/// Puts `over` over `under`, table by table.
fn merge(under: &mut Table, over: Table) {
    for (name, value) in over {
        match (under.get_mut(&name), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => drop(under.insert(name, value)),
        }
    }
}

/// `debug` or `release`: what a profile is derived from.
fn base<'a>(profiles: &'a Table, name: &'a str) -> &'a str {
    let mut name = name;
    for _ in 0..=profiles.len() {
        match name {
            "dev" | "test" => return "debug",
            "release" | "bench" => return "release",
            _ => {}
        }
        let inherits = profiles.get(name).and_then(|settings| settings.get("inherits"));
        match inherits.and_then(Value::as_str) {
            Some(parent) => name = parent,
            None => return "",
        }
    }
    ""
}

fn without_cosmetic(value: &Value) -> Value {
    match value {
        Value::Table(table) => {
            let kept = table.iter().filter(|(name, _)| !COSMETIC.contains(&name.as_str()));
            let kept = kept.map(|(name, value)| (name.clone(), without_cosmetic(value)));
            let empty = |value: &Value| value.as_table().is_some_and(Table::is_empty);
            Value::Table(kept.filter(|(_, value)| !empty(value)).collect())
        }
        other => other.clone(),
    }
}

fn json(value: &Value) -> String {
    serde_json::to_string(value).expect("TOML without dates is JSON")
}
