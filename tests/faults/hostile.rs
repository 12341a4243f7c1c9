//! Input from somebody who means harm: nothing is written, removed or run outside of where it may be.

use std::fs;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::support::{Project, files};

/// A bundle of these entries, written past the checks of the library.
fn bundle(at: &Path, entries: &[(&str, EntryType, &[u8])]) {
    let mut tar = Builder::new(Vec::new());
    let contents = br#"{"version":1,"name":"x","dissim":"0","tasks":{}}"#;
    let first = ("bundle.json", EntryType::Regular, &contents[..]);
    for (name, kind, bytes) in [&first].into_iter().chain(entries) {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        if *kind != EntryType::Regular {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_size(bytes.len() as u64);
        header.set_mode(0o4777);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    fs::write(at, tar.into_inner().unwrap()).unwrap();
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[test]
fn a_bundle_writes_nowhere_but_where_it_may() {
    let folder = Project::empty();
    let file = folder.path().join("x.tar");
    let evil = digest(b"evil");
    let tree = format!(r#"{{"../../../evil":{{"digest":"{evil}","size":4}}}}"#);
    let tree_name = format!("trees/{}.json", digest(tree.as_bytes()));
    let object = format!("objects/{evil}");
    let other = format!("objects/{}", digest(b"other"));
    let regular = EntryType::Regular;
    let cases: &[(&str, EntryType, &[u8], &str)] = &[
        ("../evil", regular, b"evil", "not a path of a bundle"),
        ("/tmp/dissim-evil", regular, b"evil", "not a path of a bundle"),
        ("project/../../evil", regular, b"evil", "not a path of a bundle"),
        ("project/.git/hooks/post-checkout", regular, b"evil", "may not write there"),
        ("project/.GIT/config", regular, b"evil", "may not write there"),
        ("project/cache/records/ab/x.json", regular, b"evil", "may not write there"),
        ("project/reports/.published.json", regular, b"{}", "may not write there"),
        ("project/link", EntryType::Symlink, b"", "regular files only"),
        ("project/hard", EntryType::Link, b"", "regular files only"),
        ("project/device", EntryType::Char, b"", "regular files only"),
        ("project/pipe", EntryType::Fifo, b"", "regular files only"),
        (&other, regular, b"evil", "its bytes are not what its name says"),
        ("objects/../../evil", regular, b"evil", "not a path of a bundle"),
        ("objects/short", regular, b"evil", "its name is not a digest"),
        (&tree_name, regular, tree.as_bytes(), "which leaves its folder"),
        ("elsewhere/x", regular, b"evil", "not part of a bundle"),
    ];
    for (name, kind, bytes, expected) in cases {
        bundle(&file, &[(&object, regular, b"evil"), (name, *kind, bytes)]);
        let output = folder.dissim("import x.tar --into target");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}\n{told}");
        assert!(told.contains(expected), "{name}\n{told}");
        let target = folder.path().join("target");
        let stray: Vec<PathBuf> = files(&target)
            .into_iter()
            .filter(|path| !path.starts_with(target.join("cache")))
            .collect();
        assert_eq!(stray, [] as [PathBuf; 0], "{name}");
        for folder in ["tmp", "records", "trees", "code"] {
            let kept = files(&target.join("cache").join(folder));
            assert_eq!(kept, [] as [PathBuf; 0], "{name}");
        }
        let mut around: Vec<_> =
            fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        around.sort();
        assert_eq!(around, ["target", "x.tar"], "{name}");
        assert!(!Path::new("/tmp/dissim-evil").exists());
        assert!(!folder.path().parent().unwrap().join("evil").exists(), "{name}");
        fs::remove_dir_all(&target).unwrap();
    }
}

/// Values of a matrix reach programs as they are: no shell sees them, and no path is made of them
/// that leads anywhere else.
#[test]
fn values_are_not_commands_and_not_paths() {
    let project = Project::empty();
    let values = [
        "../../../up",
        "/abs",
        "-rf",
        "--help",
        "a\\nb",
        "$(touch pwned)",
        "; touch pwned",
        "`touch pwned`",
        "*",
        "~",
        "é\\u202e",
        "\\e[31m",
    ];
    let list = values.map(|v| format!("\"{v}\"")).join(", ");
    project.write(&format!(
        "version: 1\nname: t\nstages:\n  say:\n    kind: command\n    matrix: {{ word: [{list}] }}\n    with: {{ run: [sh, say.sh, \"{{matrix.word}}\"], code: [say.sh], outputs: [out] }}\n  all:\n    kind: command\n    needs: {{ x: \"say[*]\" }}\n    with: {{ shell: \"cat inputs/x/*/out | wc -l > out\", outputs: [out] }}\n",
    ));
    fs::write(project.path().join("say.sh"), "printf '%s\\n' \"$1\" > out\n").unwrap();
    assert_eq!(project.ran("run"), values.len() + 1);
    let blobs: Vec<String> = files(&project.path().join("cache/objects"))
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    // One value has a line feed in it.
    assert!(blobs.iter().any(|text| text.trim() == "13"), "every value came through once");
    for value in values {
        let value = value.replace("\\n", "\n").replace("\\u202e", "\u{202e}");
        let value = value.replace("\\e", "\u{1b}") + "\n";
        assert!(blobs.contains(&value), "{value:?} came through as it is");
    }
    let mut around: Vec<_> =
        fs::read_dir(project.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    around.sort();
    assert_eq!(around, ["cache", "pipeline.yaml", "say.sh"]);
    assert!(!files(project.path()).iter().any(|path| path.ends_with("pwned")));
}

/// Names that tools trip over are kept, handed on and restored like any other.
#[test]
fn odd_names_of_outputs_survive() {
    let project = Project::empty();
    project.write(
        "version: 1\nname: t\nstages:\n  a: { kind: command, with: { run: [sh, a.sh], code: [a.sh], outputs: [deep] } }\n  b: { kind: command, needs: { x: a }, with: { shell: 'cat inputs/x/deep/* inputs/x/deep/.hidden | sort > out', outputs: [out] } }\n",
    );
    let script = "mkdir deep; cd deep; echo 1 > ./-rf; echo 2 > 'a\nb'; echo 3 > ' '; echo 4 > .hidden; echo 5 > 'ü\t\"'\n";
    fs::write(project.path().join("a.sh"), script).unwrap();
    assert_eq!(project.ran("run"), 2);
    let text: Vec<String> = files(&project.path().join("cache/objects"))
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    assert!(text.iter().any(|t| t == "1\n2\n3\n4\n5\n"), "{text:?}");
    // A name that is no text is refused, and nothing of it is kept.
    // The program itself is there too: a run copies it when it begins.
    let kept = || {
        let mut kept = files(&project.path().join("cache/objects"));
        kept.retain(|path| {
            fs::read_to_string(path).is_ok_and(|text| !text.starts_with("mkdir deep"))
        });
        kept
    };
    let before = kept();
    fs::write(project.path().join("a.sh"), "mkdir deep; touch \"deep/$(printf '\\377')\"\n")
        .unwrap();
    let output = project.dissim("run");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("is not UTF-8"), "{told}");
    assert_eq!(kept(), before);
}

/// What lies in reports/ may have come from anybody: it removes nothing outside.
#[test]
fn a_forged_memory_of_reports_removes_nothing() {
    let project = Project::new();
    let victim = project.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    fs::create_dir(project.path().join("reports")).unwrap();
    let entry = format!(r#"{{"digest":"{}","size":4,"mtime":[0,0]}}"#, digest(b"mine"));
    let absolute = victim.display();
    let memory =
        format!(r#"{{"../victim":{entry},"{absolute}":{entry},"a/../../victim":{entry}}}"#);
    fs::write(project.path().join("reports/.published.json"), memory).unwrap();
    project.succeed("run");
    assert_eq!(fs::read_to_string(victim).unwrap(), "mine");
    assert!(project.path().join("reports/index.html").exists());
}
