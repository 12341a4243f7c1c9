//! Workspaces of several layouts, each resolved or built by cargo itself, without a network.

use std::fs;

use tempfile::TempDir;

use super::*;

/// The variable that tells a build script where this test program is.
const PROGRAM: &str = "DISSIM_FINGERPRINT_TESTS";

/// A folder with crates.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(file, text)| folder.write(file, text));
        folder
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn cargo(&self, workspace: &str, arguments: &[&str]) -> std::process::Output {
        let mut command = std::process::Command::new(env!("CARGO"));
        command.args(arguments).arg("--offline").current_dir(self.path(workspace));
        // The test is built by cargo as well, and its settings are not this workspace's.
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("CARGO")) {
            if name != "CARGO_HOME" {
                command.env_remove(name);
            }
        }
        command.env_remove("RUSTFLAGS").env_remove("PWD").env(PROGRAM, env::current_exe().unwrap());
        command.output().unwrap()
    }

    fn build(&self, workspace: &str, crate_folder: &str) -> Build {
        Build {
            cargo: env!("CARGO").into(),
            folder: self.path(crate_folder),
            target: target(),
            features: BTreeSet::new(),
            hints: vec![self.path(workspace).join("target/debug/build/x/out")],
            compiler: settings::Compiler {
                profile: "release".to_owned(),
                opt_level: "3".to_owned(),
                ..settings::Compiler::default()
            },
        }
    }

    /// The entries of a crate, after its workspace was locked.
    fn entries(&self, workspace: &str, crate_folder: &str) -> BTreeMap<String, String> {
        self.entries_with(workspace, &self.build(workspace, crate_folder))
    }

    fn entries_with(&self, workspace: &str, build: &Build) -> BTreeMap<String, String> {
        let locked = self.cargo(workspace, &["generate-lockfile"]);
        assert!(locked.status.success(), "{}", String::from_utf8_lossy(&locked.stderr));
        build.manifest().unwrap().entries
    }
}

fn target() -> String {
    let said = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    said.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

fn names(entries: &BTreeMap<String, String>) -> Vec<&str> {
    entries.keys().map(String::as_str).collect()
}

/// A workspace with members in two places, one of them the root, and a crate beside it.
fn workspace() -> Folder {
    let package = |name: &str, rest: &str| {
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition.workspace = true\n{rest}"
        )
    };
    let stage = "build = \"build.rs\"\n[dependencies]\nshared.workspace = true\n\
                 short = { package = \"long-name\", path = \"../../parts/long\" }\n\
                 [target.'cfg(unix)'.dependencies]\non-unix = { path = \"../on-unix\" }\n\
                 [target.'cfg(windows)'.dependencies]\non-windows = { path = \"../on-windows\" }\n\
                 [build-dependencies]\nmakes-code = { path = \"../makes-code\" }\n\
                 [dev-dependencies]\nunrelated = { path = \"../unrelated\" }\n";
    let root = "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\", \"parts/long\"]\n\
                exclude = [\"crates/excluded\"]\n\
                [workspace.package]\nedition = \"2024\"\n\
                [workspace.dependencies]\nshared = { path = \"../beside/shared\", features = [\"fast\"] }\n\
                [package]\nname = \"study\"\nversion = \"0.1.0\"\nedition.workspace = true\n\
                [dependencies]\nstage = { path = \"crates/stage\" }\n";
    let shared = "[package]\nname = \"shared\"\nversion = \"0.3.0\"\nedition = \"2024\"\n\
                  [features]\nfast = [\"dep:extra\"]\nslow = []\n[dependencies]\n\
                  extra = { path = \"../extra\", optional = true }\n";
    let extra = "[package]\nname = \"extra\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    let mut files = vec![
        ("w/Cargo.toml".to_owned(), root.to_owned()),
        ("w/src/main.rs".to_owned(), "fn main() {}\n".to_owned()),
        ("w/crates/stage/Cargo.toml".to_owned(), package("stage", stage)),
        ("w/crates/stage/build.rs".to_owned(), "fn main() {}\n".to_owned()),
        ("w/crates/excluded/Cargo.toml".to_owned(), "not TOML".to_owned()),
        (
            "w/parts/long/Cargo.toml".to_owned(),
            package("long-name", "[lib]\npath = \"code/root.rs\"\n"),
        ),
        ("w/parts/long/code/root.rs".to_owned(), String::new()),
        ("beside/shared/Cargo.toml".to_owned(), shared.to_owned()),
        ("beside/shared/src/lib.rs".to_owned(), String::new()),
        ("beside/extra/Cargo.toml".to_owned(), extra.to_owned()),
        ("beside/extra/src/lib.rs".to_owned(), String::new()),
        (
            "w/crates/stage/src/lib.rs".to_owned(),
            "const T: &str = include_str!(\"../text/t.txt\");\n".to_owned(),
        ),
        ("w/crates/stage/text/t.txt".to_owned(), "text".to_owned()),
        ("w/crates/stage/tests/t.rs".to_owned(), String::new()),
    ];
    for name in ["on-unix", "on-windows", "makes-code", "unrelated"] {
        files.push((format!("w/crates/{name}/Cargo.toml"), package(name, "")));
        files.push((format!("w/crates/{name}/src/lib.rs"), String::new()));
    }
    let files: Vec<_> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    Folder::new(&files)
}

#[test]
fn every_kind_of_dependency_is_in_the_manifest() {
    let entries = workspace().entries("w", "w/crates/stage");
    assert_eq!(
        names(&entries),
        [
            "crates/makes-code/Cargo.toml",
            "crates/makes-code/src/lib.rs",
            "crates/on-unix/Cargo.toml",
            "crates/on-unix/src/lib.rs",
            "crates/stage/Cargo.toml",
            "crates/stage/build.rs",
            "crates/stage/src/lib.rs",
            "crates/stage/text/t.txt",
            "extra-0.1.0/Cargo.toml",
            "extra-0.1.0/src/lib.rs",
            "parts/long/Cargo.toml",
            "parts/long/code/root.rs",
            "profile",
            "shared features",
            "shared-0.3.0/Cargo.toml",
            "shared-0.3.0/src/lib.rs",
        ]
    );
    assert_eq!(entries["shared features"], "fast");
}

#[test]
fn equal_code_has_an_equal_manifest_in_another_folder() {
    assert_eq!(
        workspace().entries("w", "w/crates/stage"),
        workspace().entries("w", "w/crates/stage")
    );
}

#[test]
fn each_edit_that_cargo_compiles_changes_the_manifest() {
    let folder = workspace();
    let mut before = folder.entries("w", "w/crates/stage");
    let mut changes = |file: &str, old: &str, new: &str| {
        let text = fs::read_to_string(folder.path(file)).unwrap_or_default();
        assert!(text.contains(old), "{file}: {text}");
        folder.write(file, &text.replacen(old, new, 1));
        let after = folder.entries("w", "w/crates/stage");
        let changed = before != after;
        before = after;
        changed
    };
    for file in [
        "w/crates/stage/src/lib.rs",
        "w/crates/stage/build.rs",
        "w/crates/stage/text/t.txt",
        "w/crates/on-unix/src/lib.rs",
        "w/crates/makes-code/src/lib.rs",
        "w/parts/long/code/root.rs",
        "beside/shared/src/lib.rs",
        "beside/extra/src/lib.rs",
    ] {
        assert!(changes(file, "", "// edited\n"), "{file}");
    }
    let root = "w/Cargo.toml";
    assert!(changes(root, "edition = \"2024\"", "edition = \"2021\""));
    assert!(changes(root, "[\"fast\"]", "[\"slow\"]"));
    assert!(changes(root, "[\"slow\"]", "[\"fast\", \"slow\"]"));
    assert!(changes(
        root,
        "[dependencies]",
        "[profile.release]\noverflow-checks = true\n[dependencies]"
    ));
    assert!(changes("w/.cargo/config.toml", "", "[profile.release]\nlto = true\n"));
    // A feature that only another member asks for is on when both are built.
    let unrelated = "w/crates/unrelated/Cargo.toml";
    let long = "w/parts/long/Cargo.toml";
    assert!(changes(long, "[lib]", "[features]\nhuge = []\n[lib]"));
    let asks =
        "[dependencies]\nlong-name = { path = \"../../parts/long\", features = [\"huge\"] }\n";
    assert!(changes(
        unrelated,
        "edition.workspace = true\n",
        &format!("edition.workspace = true\n{asks}")
    ));
    // And what cargo does not compile into the stage changes nothing.
    for file in [
        "w/src/main.rs",
        "w/crates/on-windows/src/lib.rs",
        "w/crates/unrelated/src/lib.rs",
        "w/crates/stage/tests/t.rs",
        "w/crates/stage/src/.lib.rs.swp",
        "w/crates/stage/target/debug/x",
    ] {
        if !folder.path(file).exists() {
            folder.write(file, "");
        }
        assert!(!changes(file, "", "// edited\n"), "{file}");
    }
    assert!(!changes(root, "[profile.release]\n", "[profile.release]\ndebug = true\n"));
    assert!(!changes("w/.cargo/config.toml", "", "[profile.dev]\nopt-level = 1\n"));
}

#[test]
fn features_of_the_crate_being_built_follow_its_variables() {
    let manifest = "[package]\nname = \"stage\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n\
                    [features]\ndefault = [\"one-more\"]\none-more = [\"dep:extra\"]\n\
                    [dependencies]\nextra = { path = \"extra\", optional = true }\n";
    let folder = Folder::new(&[
        ("Cargo.toml", manifest),
        ("src/lib.rs", ""),
        (
            "extra/Cargo.toml",
            "[package]\nname = \"extra\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
        ),
        ("extra/src/lib.rs", ""),
    ]);
    let off = folder.entries("", "");
    assert_eq!(names(&off), ["./Cargo.toml", "./src/lib.rs", "profile"]);
    let on = Build {
        features: ["DEFAULT", "ONE_MORE"].map(str::to_owned).into(),
        ..folder.build("", "")
    };
    let on = folder.entries_with("", &on);
    assert!(on.contains_key("extra/src/lib.rs"), "{on:?}");
    assert_eq!(on["stage features"], "default,one-more");
}

#[test]
fn a_root_package_is_its_sources_and_not_the_study_around_them() {
    let folder = Folder::new(&[
        (
            "Cargo.toml",
            "[package]\nname = \"study\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
        ),
        (
            "src/main.rs",
            "#[path = \"../more/m.rs\"]\nmod m;\nfn main() { include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/data/d.bin\")); }\n",
        ),
        ("more/m.rs", "const X: &str = include_str!(\"m.txt\");\n"),
        ("more/m.txt", "m"),
        ("more/other.txt", "not included"),
        ("data/d.bin", "d"),
        ("pipeline.yaml", "version: 1\n"),
        ("cache/objects/ab/x.rs", "an artifact"),
    ]);
    assert_eq!(
        names(&folder.entries("", "")),
        ["./Cargo.toml", "./data/d.bin", "./more/m.rs", "./more/m.txt", "./src/main.rs", "profile"]
    );
}

#[test]
fn a_crate_of_another_workspace_is_resolved_by_the_one_being_built() {
    let folder = workspace();
    // The stage comes from beside, where it has a workspace and a Cargo.lock of its own.
    let foreign = "[workspace]\nmembers = [\"app\"]\nresolver = \"3\"\n\
                   [patch.\"https://example.invalid/x\"]\nunused = { path = \"../w/crates/unrelated\" }\n";
    folder.write("f/Cargo.toml", foreign.split("[patch").next().unwrap());
    folder.write(
        "f/app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\nstage = { path = \"../../w/crates/stage\" }\n",
    );
    folder.write("f/app/src/main.rs", "fn main() {}\n");
    folder.entries("w", "w/crates/stage");
    let entries = folder.entries("f", "w/crates/stage");
    assert!(entries.contains_key("stage-0.1.0/src/lib.rs"), "{entries:?}");
    assert!(entries.contains_key("on-unix-0.1.0/src/lib.rs"), "{entries:?}");
    // A workspace that has nothing to do with it does not count.
    fs::remove_file(folder.path("f/Cargo.lock")).unwrap();
    folder.write(
        "f/app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
    );
    let entries = folder.entries("f", "w/crates/stage");
    assert!(entries.contains_key("crates/stage/src/lib.rs"), "{entries:?}");
}

#[test]
fn what_cannot_be_resolved_is_an_error_that_says_what_to_do() {
    let folder = workspace();
    folder.entries("w", "w/crates/stage");
    let build = folder.build("w", "w/crates/stage");
    fs::remove_file(folder.path("w/Cargo.lock")).unwrap();
    let error = build.manifest().unwrap_err();
    assert!(error.what.contains("--locked"), "{error}");
    assert!(error.help.contains("cargo update --workspace"), "{error}");
    folder.entries("w", "w/crates/stage");
    fs::remove_dir_all(folder.path("beside/extra")).unwrap();
    let error = build.manifest().unwrap_err();
    assert!(error.what.contains("extra"), "{error}");
}

#[test]
fn versions_have_their_checksum_or_source() {
    let lock: Lock = toml::from_str(
        "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\
         source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"0123456789abcdef0123\"\n\
         [[package]]\nname = \"b\"\nversion = \"0.1.0\"\nsource = \"git+https://example.org/b?rev=1#abcdef\"\n",
    )
    .unwrap();
    let pinned = |line: &str| lock.pinned(&Dependency::parse(line).unwrap());
    assert_eq!(pinned("a v1.0.0\tx,y (*)").unwrap(), "1.0.0 sha256:0123456789abcdef");
    assert_eq!(
        pinned("b v0.1.0 (https://example.org/b?rev=1#abcdef)\t").unwrap(),
        "0.1.0 from git+https://example.org/b?rev=1#abcdef"
    );
    assert_eq!(pinned("a v2.0.0\t").unwrap_err().what, "Cargo.lock does not have a 2.0.0");
    let local = Dependency::parse("c v1.0.0 (proc-macro) (/a (b)/c)\tx (*)").unwrap();
    assert_eq!(local.folder, Some("/a (b)/c".into()));
    assert_eq!(local.features, "x");
}

#[test]
fn flags_that_only_link_or_warn_do_not_count() {
    let flags = [
        "-D",
        "warnings",
        "-Clink-arg=-fuse-ld=lld",
        "-C",
        "target-cpu=native",
        "-L/x",
        "--cfg",
        "fast",
    ];
    let root = workspace();
    let compiler = settings::Compiler {
        flags: flags.map(str::to_owned).to_vec(),
        target_features: "avx2".to_owned(),
        ..settings::Compiler::default()
    };
    let entries = settings::of(&compiler, &root.path("w")).unwrap().entries;
    assert_eq!(entries["rustflags"], "-Ctarget-cpu=native --cfg fast");
    assert_eq!(entries["target features"], "avx2");
}

/// Not a test: what the build script of the test below runs, with all that cargo tells a build script.
#[test]
#[ignore = "run by the build script of another test"]
fn bakes_in_a_build_script() {
    println!();
    bake();
}

#[test]
fn a_build_script_bakes_what_an_edit_changes() {
    let folder = workspace();
    let script = format!(
        "fn main() {{\n    let program = std::env::var(\"{PROGRAM}\").unwrap();\n    \
         let arguments = [\"--exact\", \"tests::bakes_in_a_build_script\", \"--ignored\", \"--nocapture\"];\n    \
         assert!(std::process::Command::new(program).args(arguments).status().unwrap().success());\n}}\n"
    );
    folder.write("w/crates/stage/build.rs", &script);
    folder.write(
        "w/crates/stage/src/lib.rs",
        "//! Text.\npub const CODE: &str = include_str!(concat!(env!(\"OUT_DIR\"), \"/code.json\"));\n",
    );
    folder.write("w/src/main.rs", "fn main() { print!(\"{}\", stage::CODE); }\n");
    let built = || {
        let output = folder.cargo("w", &["run", "--quiet"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str::<BTreeMap<String, String>>(&json).unwrap()
    };
    let first = built();
    assert_eq!(first["profile"], "debug, opt-level 0");
    assert_eq!(first, built());
    for file in ["beside/extra/src/lib.rs", "w/crates/on-unix/src/lib.rs"] {
        let before = built();
        // Cargo compares times.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        folder.write(file, "// edited\n");
        let after = built();
        let changed: Vec<_> =
            after.iter().filter(|(name, is)| before.get(*name) != Some(is)).collect();
        assert_eq!(changed.len(), 1, "{changed:?}");
    }
    assert!(first.values().chain(first.keys()).all(|text| !text.contains("/tmp")), "{first:?}");
}

#[test]
fn the_example_stage_is_fingerprinted() {
    let repository =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|d| d.join("Cargo.lock").is_file());
    let repository = repository.unwrap();
    let copy = Folder::new(&[]);
    let all = walkdir::WalkDir::new(repository).into_iter().filter_entry(|entry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() != 1
            || !(name.starts_with('.') || ["target", "cache", "reports", "docs"].contains(&&*name))
    });
    for entry in all.map(Result::unwrap).filter(|entry| entry.file_type().is_file()) {
        let to = copy.path("").join(entry.path().strip_prefix(repository).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(entry.path(), to).unwrap();
    }
    let build = copy.build("", "examples/letters");
    let before = build.manifest().unwrap().entries;
    assert!(before.contains_key("examples/letters/src/lib.rs"), "{before:?}");
    assert!(before["blake3"].contains(" sha256:"), "{}", before["blake3"]);
    // Only its own sources, and those of what it uses.
    let of_crates = |entries: &BTreeMap<String, String>, word: &str| {
        entries.keys().any(|name| name.contains(word))
    };
    assert!(!of_crates(&before, "fingerprint/") && !of_crates(&before, "train/"), "{before:?}");
    let file = "examples/letters/src/lib.rs";
    copy.write(file, &(fs::read_to_string(copy.path(file)).unwrap() + "// edited\n"));
    let after = build.manifest().unwrap().entries;
    let changed: Vec<_> = after.iter().filter(|(name, is)| before.get(*name) != Some(is)).collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
}
