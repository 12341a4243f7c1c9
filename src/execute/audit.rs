//! Runs a cached task again, beside the store, and compares what comes out byte for byte.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::process::{self, Cancel, End};
use super::worker;
use crate::graph::{Study, TaskId};
use crate::plan::Planner;
use crate::snapshot::CodeSnapshot;
use crate::store::{Record, Store, Tree};

/// How the second run of a task came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audited {
    /// The very bytes of the first.
    Same,
    /// Not the same.
    Differs {
        /// The first file that differs, and how.
        first: String,
        /// How many others do.
        more: usize,
    },
    /// It failed, in words.
    Failed(String),
    /// A signal ended it.
    Cancelled,
}

/// Runs a task again in a folder of its own, with a scratch folder of its own, so that no checkpoint
/// is taken up. The store keeps what it has.
///
/// # Errors
/// When the folder cannot be made, or an input is gone from the store.
pub fn audit(
    study: &Study,
    store: &Store,
    task: TaskId,
    record: &Record,
    program: &Path,
    cancel: &Cancel,
) -> io::Result<Audited> {
    let run = store.run_folder()?;
    let folder = run.attempt()?;
    let scratch = folder.join("scratch");
    fs::create_dir_all(&scratch)?;
    let code = Arc::new(CodeSnapshot::take(study, store, std::iter::once(task)));
    let code = Planner::for_run(study, store, code).code_files(task).map_err(io::Error::other)?;
    let (spec, _) =
        worker::lay_out(study, store, task, &record.description, &code, &folder, scratch)?;
    let policy = &study.stage_of(task).policy;
    let ended = process::run(program, &folder, &folder.join("log"), policy, cancel, |_| {})?;
    match ended.end {
        End::Done => {}
        End::Failed(why) => return Ok(Audited::Failed(why)),
        End::Cancelled => return Ok(Audited::Cancelled),
    }
    let before = store.tree(&record.artifact).unwrap_or_default();
    Ok(compare(&before, &Tree::of_folder(&spec.output)?))
}

/// The first path, in order, that differs between two manifests.
fn compare(before: &Tree, after: &Tree) -> Audited {
    let mut names: Vec<&String> = before.paths().chain(after.paths()).collect();
    names.sort();
    names.dedup();
    let same = |name: &String| before.at(name) == after.at(name);
    names.retain(|name| !same(name));
    let Some(first) = names.first() else { return Audited::Same };
    let file = |tree: &Tree| tree.files.get(*first).cloned();
    let there = |tree: &Tree| tree.at(first).is_some();
    let what = match (file(before), file(after)) {
        _ if !there(after) => "is not made again".to_owned(),
        _ if !there(before) => "is new".to_owned(),
        (None, _) | (_, None) => "is something else: a file, a link or a folder".to_owned(),
        (Some(a), Some(b)) if a.digest == b.digest => "has another mode".to_owned(),
        (Some(a), Some(b)) if a.size != b.size => {
            format!("has {} bytes, and had {}", b.size, a.size)
        }
        (Some(a), Some(b)) => {
            format!("has other bytes: {} -> {}", a.digest.short(), b.digest.short())
        }
    };
    Audited::Differs { first: format!("{first} {what}"), more: names.len() - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::store::Entry;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let entry = |text: &str| Entry {
            digest: Digest::of(text.as_bytes()),
            size: text.len() as u64,
            executable: false,
        };
        Tree::of_files(files.iter().map(|(n, t)| ((*n).to_owned(), entry(t))).collect())
    }

    #[test]
    fn the_first_difference_is_named() {
        let before = tree(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let told = |after: &[(&str, &str)]| match compare(&before, &tree(after)) {
            Audited::Differs { first, more } => format!("{first} +{more}"),
            other => format!("{other:?}"),
        };
        assert_eq!(told(&[("a", "1"), ("b", "2"), ("c", "3")]), "Same");
        assert_eq!(told(&[("a", "1"), ("c", "3")]), "b is not made again +0");
        assert_eq!(told(&[("a", "1"), ("b", "22"), ("c", "4")]), "b has 2 bytes, and had 1 +1");
        assert_eq!(told(&[("0", ""), ("a", "1"), ("b", "2"), ("c", "3")]), "0 is new +0");
        assert!(told(&[("a", "1"), ("b", "2"), ("c", "4")]).starts_with("c has other bytes: "));
    }
}
