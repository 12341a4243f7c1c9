//! blake3 of a file.
//!
//! Large files are mapped, which is faster than reading them by half again. Where another process cuts a
//! mapped file short, the system kills who looks at it; so that is a process of its own, and where it comes to
//! nothing the file is read here.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::digest::Digest;

/// Files from this size on are hashed by all cores.
const PARALLEL: u64 = 16 << 20;
/// In pieces of this size, a power of two.
const PIECE: u64 = 512 << 10;
/// Files from this size on are worth a process of their own.
const MAPPED: u64 = 128 << 20;

/// The program whose `hash FILE` maps files.
static HELPER: OnceLock<PathBuf> = OnceLock::new();

/// From now on large files are hashed by `program hash FILE`, which is to print what [`mapped`] gives.
pub fn hash_in(program: PathBuf) {
    // Whoever is first: they are all this program.
    let _ = HELPER.set(program);
}

/// The digest of a file, mapped into memory. Where another process cuts the file short meanwhile, the
/// system kills this one.
///
/// # Errors
/// When the file cannot be read.
pub fn mapped(path: &Path) -> io::Result<Digest> {
    Ok(blake3::Hasher::new().update_mmap_rayon(path)?.finalize().into())
}

/// blake3 of a file.
pub(super) fn hash_file(path: &Path, size: u64) -> io::Result<Digest> {
    hash_by(HELPER.get().map(PathBuf::as_path).filter(|_| size >= MAPPED), path, size)
}

fn hash_by(helper: Option<&Path>, path: &Path, size: u64) -> io::Result<Digest> {
    if let Some(digest) = helper.and_then(|program| by_process(program, path)) {
        return Ok(digest);
    }
    let mut file = File::open(path)?;
    if size >= PARALLEL {
        match hash_pieces(&file, size, PIECE) {
            // It is shorter by now.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            // Longer by now, perhaps: then it is another file, which is seen by its size.
            hashed => return hashed.map(Into::into),
        }
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file)?;
    Ok(hasher.finalize().into())
}

/// What `program hash FILE` prints; nothing where it does not end well.
fn by_process(program: &Path, path: &Path) -> Option<Digest> {
    let mut command = Command::new(program);
    command.args(["hash".as_ref(), "--".as_ref(), path.as_os_str()]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| Digest::read(output.stdout.trim_ascii_end())).flatten()
}

/// blake3 of the first `size` bytes, more than one piece: every core reads pieces of its own, which
/// stay in its cache while they are hashed, and the tree of blake3 is put together from them.
fn hash_pieces(file: &File, size: u64, piece: u64) -> io::Result<blake3::Hash> {
    let left = left_subtree_len(size);
    let (a, b) =
        rayon::join(|| subtree(file, 0, left, piece), || subtree(file, left, size - left, piece));
    Ok(merge_subtrees_root(&a?, &b?, Mode::Hash))
}

fn subtree(file: &File, from: u64, size: u64, piece: u64) -> io::Result<ChainingValue> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    if size > piece {
        let left = left_subtree_len(size);
        let (a, b) = rayon::join(
            || subtree(file, from, left, piece),
            || subtree(file, from + left, size - left, piece),
        );
        return Ok(merge_subtrees_non_root(&a?, &b?, Mode::Hash));
    }
    BUFFER.with_borrow_mut(|buffer| {
        // A piece fits into memory.
        buffer.resize(size as usize, 0);
        file.read_exact_at(buffer, from)?;
        Ok(blake3::Hasher::new().set_input_offset(from).update(buffer).finalize_non_root())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pieces_hash_to_what_the_whole_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..70_000_u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        for piece in [1024, 2048, 8192] {
            let sizes =
                (1..60).flat_map(|chunks| [chunks * 1024, chunks * 1024 + 1, chunks * 1024 + 777]);
            for size in sizes.filter(|size| *size > piece) {
                let whole = blake3::hash(&bytes[..size as usize]);
                assert_eq!(hash_pieces(&file, size, piece).unwrap(), whole, "{size} by {piece}");
            }
        }
        // The real sizes; and a file that became shorter than its `stat` said.
        let large: Vec<u8> =
            bytes.iter().copied().cycle().take((PARALLEL + 12_345) as usize).collect();
        fs::write(&path, &large).unwrap();
        let whole = Digest::from(blake3::hash(&large));
        assert_eq!(hash_file(&path, large.len() as u64).unwrap(), whole);
        assert_eq!(hash_file(&path, large.len() as u64 + 1).unwrap(), whole);
    }

    #[test]
    fn a_helper_that_fails_costs_nothing_but_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("-file");
        fs::write(&path, [7; 100_000]).unwrap();
        let whole = Digest::from(blake3::hash(&[7; 100_000]));
        assert_eq!(mapped(&path).unwrap(), whole);
        for helper in ["/bin/false", "/bin/true", "/bin/echo", "/there/is/none"] {
            assert_eq!(
                hash_by(Some(Path::new(helper)), &path, 100_000).unwrap(),
                whole,
                "{helper}"
            );
        }
        // What is not there is an error of here.
        let gone = hash_by(Some(Path::new("/bin/false")), &folder.path().join("none"), 1);
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
