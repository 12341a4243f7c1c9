//! Which project files a pattern in pipeline.yaml means. The runner hashes them and `command`
//! hands them to its program, so both ask here.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::{IoContext, StageError};

/// The files under `root` that `pattern` means, relative to `root`, sorted, each once.
///
/// A path to a file is that file; a path to a folder is every file under it, hidden ones too, but
/// not Python's `__pycache__`. The last component may hold `*` (any characters) and `?` (one
/// character); as in a shell, neither matches a leading dot. A link to a file counts as the file.
///
/// # Errors
/// When the pattern is absolute or leaves the project, means nothing, or a folder cannot be read.
pub fn expand(root: &Path, pattern: &Path) -> Result<Vec<PathBuf>, StageError> {
    let pattern = normal(pattern)?;
    let name = pattern.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let folder = pattern.parent().unwrap_or(Path::new(""));
    if is_pattern(&folder.to_string_lossy()) {
        let what = format!("`{}`: only the last part of a path may hold * or ?", pattern.display());
        return Err(StageError::new(what).help("name the folder; it means every file under it"));
    }
    let mut files = Vec::new();
    if is_pattern(name) {
        for entry in children(&root.join(folder))? {
            let hidden = entry.starts_with('.') && !name.starts_with('.');
            if !hidden && matches(name, &entry) {
                collect(root, &folder.join(entry), &mut files)?;
            }
        }
    } else {
        collect(root, &pattern, &mut files)?;
    }
    if files.is_empty() {
        let what = format!("no file matches `{}`", pattern.display());
        return Err(StageError::new(what).at(root).help("check the name, or take the entry out"));
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// The pattern without `.` components.
fn normal(pattern: &Path) -> Result<PathBuf, StageError> {
    let mut clean = PathBuf::new();
    for part in pattern.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                let what = format!("`{}` leaves the project", pattern.display());
                let help = "paths are relative to the folder of pipeline.yaml and stay in it";
                return Err(StageError::new(what).help(help));
            }
        }
    }
    Ok(clean)
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// The names in a folder that count, sorted.
fn children(folder: &Path) -> Result<Vec<String>, StageError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).or_fail("cannot list the folder", folder)? {
        let name = entry.or_fail("cannot list the folder", folder)?.file_name();
        let name = name.into_string().map_err(|name| {
            StageError::new(format!("file name {} is not UTF-8", name.display())).at(folder)
        })?;
        if name != "__pycache__" {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Adds `path`, or every file under it.
fn collect(root: &Path, path: &Path, files: &mut Vec<PathBuf>) -> Result<(), StageError> {
    let full = root.join(path);
    let kind = fs::metadata(&full).or_fail("cannot read", &full)?;
    if kind.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    if !kind.is_dir() {
        return Err(StageError::new("neither a file nor a folder").at(full));
    }
    // A link to a folder could lead back up, and then there is no end to it.
    if fs::symlink_metadata(&full).or_fail("cannot read", &full)?.is_symlink() {
        let help = "name the folder that it leads to";
        return Err(StageError::new("a link to a folder is not followed").at(full).help(help));
    }
    for name in children(&full)? {
        collect(root, &path.join(name), files)?;
    }
    Ok(())
}

/// Gives the owner of a folder, and of all folders below it, the right to list and change them. What cannot
/// be changed stays as it is.
pub fn unlock_folders(folder: &Path) {
    let Ok(metadata) = fs::symlink_metadata(folder) else { return };
    if !metadata.is_dir() {
        return;
    }
    let mode = metadata.permissions().mode();
    if mode & 0o700 != 0o700 {
        let _ = fs::set_permissions(folder, Permissions::from_mode(mode | 0o700));
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock_folders(&entry.path());
        }
    }
}

/// Removes a folder and all that is in it, folders that their owner may not change included. That there is
/// none is what was wanted.
///
/// # Errors
/// Returns an error if something in it cannot be removed.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    let remove = || match fs::remove_dir_all(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    match remove() {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            unlock_folders(folder);
            remove()
        }
        removed => removed,
    }
}

/// Whether `name` fits `pattern`: the usual two-pointer match that goes back to the last `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn project() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in ["a.csv", "b.csv", ".hidden.csv", "src/x.py", "src/deep/y.py", "src/.env"] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        fs::create_dir(root.path().join("src/__pycache__")).unwrap();
        fs::write(root.path().join("src/__pycache__/x.pyc"), "").unwrap();
        root
    }

    fn expanded(root: &Path, pattern: &str) -> String {
        match expand(root, Path::new(pattern)) {
            Ok(files) => files.iter().map(|f| f.to_str().unwrap()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string().replace(root.to_str().unwrap(), "ROOT"),
        }
    }

    #[test]
    fn files_folders_and_patterns() {
        let root = project();
        let root = root.path();
        assert_eq!(expanded(root, "./a.csv"), "a.csv");
        assert_eq!(expanded(root, "src"), "src/.env src/deep/y.py src/x.py");
        assert_eq!(expanded(root, "src/"), "src/.env src/deep/y.py src/x.py");
        assert_eq!(expanded(root, "*.csv"), "a.csv b.csv");
        assert_eq!(expanded(root, "?.csv"), "a.csv b.csv");
        assert_eq!(expanded(root, ".*.csv"), ".hidden.csv");
        assert_eq!(expanded(root, "src/*"), "src/deep/y.py src/x.py");
    }

    #[test]
    fn what_means_nothing_is_an_error() {
        let root = project();
        let root = root.path();
        insta::assert_snapshot!(expanded(root, "*.txt"), @r"
        no file matches `*.txt`
          at: ROOT
          help: check the name, or take the entry out
        ");
        insta::assert_snapshot!(expanded(root, "../x"), @r"
        `../x` leaves the project
          help: paths are relative to the folder of pipeline.yaml and stay in it
        ");
        assert!(expanded(root, "/etc/passwd").starts_with("`/etc/passwd` leaves the project"));
        assert!(expanded(root, "s*/x.py").contains("only the last part"));
        assert!(expanded(root, "none.csv").starts_with("cannot read: No such file"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_back_up_does_not_hang() {
        let root = project();
        std::os::unix::fs::symlink("..", root.path().join("src/up")).unwrap();
        assert!(expanded(root.path(), "src").starts_with("a link to a folder is not followed"));
    }

    /// What [`matches`] must say, by recursion over every way a star can stretch.
    fn matches_slowly(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=name.len()).any(|k| matches_slowly(rest, &name[k..])),
            (['?', rest @ ..], [_, tail @ ..]) => matches_slowly(rest, tail),
            ([c, rest @ ..], [d, tail @ ..]) if c == d => matches_slowly(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_equals_the_recursive_form(pattern in "[ab*?]{0,7}", name in "[ab]{0,8}") {
            let (p, n): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(matches(&pattern, &name), matches_slowly(&p, &n));
        }
    }
}
