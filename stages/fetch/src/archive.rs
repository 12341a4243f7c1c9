//! Unpacking: the wanted files of an archive into one folder, and nothing else.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use dissim_api::{IoContext, StageError};
use flate2::bufread::GzDecoder;

/// Largest file taken out of an archive; the largest that is wanted has 47 MB.
const LARGEST: u64 = 64 << 20;
/// The most bytes that are unpacked to look for them.
const LARGEST_ARCHIVE: u64 = 2 << 30;

/// Unpacks the files named in `wanted`, wherever they are in a `.tar.gz`, into `folder`.
///
/// # Errors
/// When the archive is damaged, holds none of them, or holds one that is too large.
pub(crate) fn unpack_tar_gz(
    archive: &Path,
    wanted: &[&str],
    folder: &Path,
) -> Result<(), StageError> {
    let file = BufReader::new(File::open(archive).or_fail("cannot read", archive)?);
    // A few kilobytes can unpack to terabytes: what follows the limit is cut off.
    unpack_tar(GzDecoder::new(file).take(LARGEST_ARCHIVE), archive, wanted, folder)
}

/// Unpacks the files named in `wanted`, wherever they are in a `.deb`, into `folder`.
///
/// # Errors
/// As [`unpack_tar_gz`], and when there is no `dpkg-deb`.
pub(crate) fn unpack_deb(archive: &Path, wanted: &[&str], folder: &Path) -> Result<(), StageError> {
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .or_fail("cannot start dpkg-deb", archive)?;
    let Some(tar) = child.stdout.take() else { unreachable!("stdout is piped") };
    let unpacked = unpack_tar(tar, archive, wanted, folder);
    // Its status says nothing: it may end by a broken pipe once the wanted files are out, and a
    // package that is damaged before that is a damaged tar here.
    child.wait().or_fail("cannot wait for dpkg-deb", archive)?;
    unpacked
}

/// Only names count, never the paths of members: nothing can land outside of `folder`.
fn unpack_tar(
    tar: impl Read,
    archive: &Path,
    wanted: &[&str],
    folder: &Path,
) -> Result<(), StageError> {
    fs::create_dir_all(folder).or_fail("cannot create", folder)?;
    let mut found = 0;
    let mut members = tar::Archive::new(tar);
    for member in members.entries().or_fail("cannot unpack", archive)? {
        let mut member = member.or_fail("cannot unpack", archive)?;
        let path = member.path().or_fail("cannot unpack", archive)?;
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if !member.header().entry_type().is_file() || !wanted.contains(&name.as_str()) {
            continue;
        }
        if member.size() > LARGEST {
            let what = format!("{name} in the archive has {} bytes, too many", member.size());
            return Err(StageError::new(what).at(archive));
        }
        let target = folder.join(&name);
        let mut file = File::create(&target).or_fail("cannot create", &target)?;
        io::copy(&mut member, &mut file).or_fail("cannot unpack", archive)?;
        found += 1;
    }
    if found == 0 {
        return Err(StageError::new("the archive holds none of the wanted files").at(archive));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, data) in members {
            let mut header = tar::Header::new_gnu();
            // Written past the builder, which would refuse `..`.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, *data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_wanted_names_land_and_only_in_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let (archive, folder) = (root.path().join("a.tgz"), root.path().join("out"));
        let members: [(&str, &[u8]); 4] = [
            ("package/data/one", b"1"),
            ("../../two", b"2"),
            ("package/other", b"3"),
            ("/abs/three", b"4"),
        ];
        fs::write(&archive, gz(&tar(&members))).unwrap();
        unpack_tar_gz(&archive, &["one", "two", "three"], &folder).unwrap();
        assert_eq!(names(&folder), ["one", "three", "two"]);
        assert_eq!(names(root.path()), ["a.tgz", "out"]);
        assert_eq!(fs::read(folder.join("two")).unwrap(), b"2");
    }

    #[test]
    fn a_damaged_or_empty_archive_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let (archive, folder) = (root.path().join("a.tgz"), root.path().join("out"));
        let error = |bytes: &[u8]| {
            fs::write(&archive, bytes).unwrap();
            unpack_tar_gz(&archive, &["one"], &folder).unwrap_err().what
        };
        assert_eq!(error(&gz(&tar(&[("x", b"1")]))), "the archive holds none of the wanted files");
        assert!(error(b"<html>not found</html>").starts_with("cannot unpack: "));
        let noise: Vec<u8> =
            (0..50_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let whole = gz(&tar(&[("one", &noise)]));
        assert!(error(&whole[..whole.len() / 2]).starts_with("cannot unpack: "));
    }

    #[test]
    fn a_member_that_claims_to_be_huge_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (archive, folder) = (root.path().join("a.tgz"), root.path().join("out"));
        let mut bytes = tar(&[("one", b"1")]);
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes().copy_from_slice(&bytes[..512]);
        header.set_size(1 << 40);
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        fs::write(&archive, gz(&bytes)).unwrap();
        let error = unpack_tar_gz(&archive, &["one"], &folder).unwrap_err();
        assert_eq!(error.what, "one in the archive has 1099511627776 bytes, too many");
    }
}
