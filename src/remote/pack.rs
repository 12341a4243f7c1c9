//! A record on its way: the record, its manifest and its small blobs as one object.
//!
//! ```text
//! dissim pack 1\n
//! length of the header, 8 bytes, little-endian
//! header     JSON: length of the record, manifest, digests and sizes of the blobs, signature
//! record     JSON, as it was signed
//! blobs      one after the other
//! ```
//!
//! A task whose files are small costs one request to send and one to take.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::sign::{PublicKey, Signature, Signer};
use crate::digest::Digest;
use crate::key::Description;
use crate::store::{Record, Tree, quoted};

const MAGIC: &[u8] = b"dissim pack 1\n";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    record: u64,
    tree: Tree,
    blobs: Vec<(Digest, u64)>,
    signature: Option<Signature>,
}

/// What a pack holds, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pack {
    pub record: Record,
    pub tree: Tree,
    /// Small blobs; each is what its digest says.
    pub blobs: Vec<(Digest, Bytes)>,
}

/// Writes a pack.
pub(super) fn write(
    record: &Record,
    tree: &Tree,
    blobs: &[(Digest, Vec<u8>)],
    signer: Option<&Signer>,
) -> Vec<u8> {
    let record = serde_json::to_vec(record).expect("a record serialises");
    let header = Header {
        record: record.len() as u64,
        tree: tree.clone(),
        blobs: blobs.iter().map(|(digest, bytes)| (digest.clone(), bytes.len() as u64)).collect(),
        signature: signer.map(|signer| signer.sign(&record)),
    };
    let header = serde_json::to_vec(&header).expect("a header serialises");
    let mut pack = MAGIC.to_vec();
    pack.extend_from_slice(&(header.len() as u64).to_le_bytes());
    pack.extend(header);
    pack.extend(record);
    blobs.iter().for_each(|(_, bytes)| pack.extend_from_slice(bytes));
    pack
}

/// Reads a pack for `key`, and believes none of it: everything is checked against its digest, and
/// the record against the trusted keys, where there are any.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(bytes: &Bytes, key: &Digest, trusted: &[PublicKey]) -> Result<Pack, String> {
    let mut rest = bytes.clone();
    let mut take = |length: u64| {
        let length = usize::try_from(length).ok().filter(|&l| l <= rest.len());
        length.map(|length| rest.split_to(length)).ok_or("it is cut off")
    };
    if take(MAGIC.len() as u64)? != MAGIC {
        return Err("it is no record of this version of dissim".to_owned());
    }
    let length = take(8)?[..].try_into().expect("8 bytes were taken");
    let header: Header = serde_json::from_slice(&take(u64::from_le_bytes(length))?)
        .map_err(|e| format!("its header cannot be read: {e}"))?;
    let text = take(header.record)?;
    let signed = header.signature.as_ref().is_some_and(|s| s.is_by(trusted, &text));
    if !trusted.is_empty() && !signed {
        return Err(match header.signature {
            Some(_) => "none of the trusted keys signed it",
            None => "it is not signed",
        }
        .to_owned());
    }
    let record: Record =
        serde_json::from_slice(&text).map_err(|e| format!("the record cannot be read: {e}"))?;
    if record.version != Record::VERSION || record.description.version != Description::VERSION {
        return Err("another version of dissim wrote it".to_owned());
    }
    if record.key != *key || record.description.key() != *key {
        return Err("the record is of another key".to_owned());
    }
    if header.tree.digest() != record.artifact {
        return Err("its manifest is not what the record says".to_owned());
    }
    header.tree.check_paths()?;
    check_names(&header.tree)?;
    let mut blobs = Vec::new();
    for (digest, size) in header.blobs {
        let blob = take(size)?;
        if Digest::of(&blob) != digest {
            return Err(format!("blob {} is not what its digest says", digest.short()));
        }
        blobs.push((digest, blob));
    }
    Ok(Pack { record, tree: header.tree, blobs })
}

/// Refuses a manifest with two paths that are one to some file system: in capitals or not, or with accents
/// written in two ways. A manifest of one's own may have them; one from elsewhere might not fit here.
fn check_names(tree: &Tree) -> Result<(), String> {
    let mut seen = HashMap::new();
    for path in tree.paths() {
        let prefixes = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path.as_str()]);
        for prefix in prefixes {
            let other = *seen.entry(folded(prefix)).or_insert(prefix);
            if other != prefix {
                let (one, two) = (quoted(other), quoted(prefix));
                return Err(format!(
                    "its manifest has {one} and {two}, one name to some file systems"
                ));
            }
        }
    }
    Ok(())
}

/// The path without what a file system may ignore. A letter with an accent becomes the same as that letter
/// with a combining accent; letters that differ in their accents alone become equal too.
fn folded(path: &str) -> String {
    let mut folded = String::new();
    for c in path.chars().flat_map(char::to_lowercase) {
        match c {
            '\u{300}'..='\u{36f}' => {
                folded.pop();
                folded.push('\u{fffd}');
            }
            '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => folded.push('\u{fffd}'),
            other => folded.push(other),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::Entry;

    fn sample(files: &[Vec<u8>]) -> (Record, Tree, Vec<(Digest, Vec<u8>)>) {
        let entry = |bytes: &Vec<u8>| Entry {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            executable: false,
        };
        let named = files.iter().enumerate().map(|(i, bytes)| (format!("f{i}"), entry(bytes)));
        let tree = Tree::of_files(named.collect());
        let description = Description {
            version: Description::VERSION,
            kind: "command".to_owned(),
            code: Digest::of(b"code"),
            params: serde_json::Map::new(),
            inputs: [].into(),
            files: [].into(),
            executables: [].into(),
            backend: None,
            pipeline: None,
        };
        let record = Record {
            version: Record::VERSION,
            key: description.key(),
            task: "a".to_owned(),
            description,
            artifact: tree.digest(),
            started: 1,
            duration_s: 0.1,
            peak_memory_bytes: 2,
            host: "h".to_owned(),
            log: Digest::of(b""),
            metrics: [].into(),
            dissim: "0".to_owned(),
            check: None,
        };
        let blobs = files.iter().map(|bytes| (Digest::of(bytes), bytes.clone())).collect();
        (record, tree, blobs)
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back_and_no_damage_passes(
            files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
            at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<prop::sample::Index>(),
        ) {
            let (record, tree, blobs) = sample(&files);
            let good = write(&record, &tree, &blobs, None);
            let back = read(&good.clone().into(), &record.key, &[]).unwrap();
            prop_assert_eq!((&back.record, &back.tree), (&record, &tree));
            prop_assert_eq!(back.blobs.len(), files.len());
            // A flipped byte is an error, or falls where nothing depends on it: what comes back is
            // then still a record of this key whose artifact is what its digest says.
            let mut bad = good.clone();
            let at = at.index(bad.len());
            bad[at] ^= flip;
            if let Ok(pack) = read(&bad.into(), &record.key, &[]) {
                prop_assert_eq!(pack.record.description.key(), record.key.clone());
                prop_assert_eq!(pack.tree.digest(), pack.record.artifact);
            }
            let short = good[..cut.index(good.len())].to_vec();
            prop_assert!(read(&short.into(), &record.key, &[]).is_err());
        }
    }

    #[test]
    fn a_signed_record_cannot_be_changed() {
        let (secret, public) = super::super::sign::new_pair().unwrap();
        let signer = Signer::of(&secret).unwrap();
        let (record, tree, blobs) = sample(&[b"x".to_vec()]);
        let trusted = [public];
        let told =
            |pack: Vec<u8>| read(&pack.into(), &record.key, &trusted).map(|_| ()).unwrap_err();
        assert!(
            read(&write(&record, &tree, &blobs, Some(&signer)).into(), &record.key, &trusted)
                .is_ok()
        );
        assert_eq!(told(write(&record, &tree, &blobs, None)), "it is not signed");
        let (other, _) = super::super::sign::new_pair().unwrap();
        let other = Signer::of(&other).unwrap();
        let wrong = write(&record, &tree, &blobs, Some(&other));
        assert_eq!(told(wrong), "none of the trusted keys signed it");
        // The signature of one record on another, which says that its artifact is something else.
        let signed = write(&record, &tree, &blobs, Some(&signer));
        let (better, tree, blobs) = sample(&[b"y".to_vec()]);
        let text = |r: &Record| serde_json::to_vec(r).unwrap();
        let (old, new) = (text(&record), text(&better));
        let at = signed.windows(old.len()).position(|w| w == old).unwrap();
        let forged = [&signed[..at], &new, &signed[at + old.len()..]].concat();
        assert_eq!(told(forged), "none of the trusted keys signed it");
        let plain = write(&better, &tree, &blobs, None);
        let other_key = Digest::of(b"other");
        let told = read(&plain.into(), &other_key, &[]).unwrap_err();
        assert_eq!(told, "the record is of another key");
    }
}
