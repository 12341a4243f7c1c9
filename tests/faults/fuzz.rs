//! Bad input in great numbers: mutations of real files, against oracles. Without a guide by coverage;
//! fuzz/ has that for the readers of other people's formats.
//!
//! `DISSIM_FUZZ_SECONDS=120 cargo test --release --test faults -- --ignored fuzz --nocapture`

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dissim::digest::Digest;
use dissim::parse::{self, LoadOptions};
use dissim::registry::Registry;
use dissim::store::Store;
use serde_json::Value;

use super::study::{Study, wait};
use super::support::{PIPELINE, SMALL, files};

/// A small generator: the same sequence everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }
}

/// What often matters: signs of YAML and JSON, numbers at their ends, paths.
const TOKENS: [&str; 44] = [
    "\n",
    " ",
    "  ",
    "\t",
    ":",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "&a ",
    "*a",
    "!!str ",
    "|",
    ">",
    "#",
    "---\n",
    "<<: ",
    "${",
    "}",
    "range(",
    "-1",
    "0",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1e308",
    "1e999",
    ".nan",
    "null",
    "true",
    "../",
    "/",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "ÿ",
    "[*]",
    "=",
    "kind: command",
];

fn mutate(random: &mut Random, of: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = of.to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(40)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece.repeat(1 + random.below(4)));
            }
            5 => {
                let from = random.below(other.len() + 1);
                let to = (from + random.below(60)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => drop(bytes.splice(at..at, TOKENS[random.below(TOKENS.len())].bytes())),
        }
    }
    bytes
}

/// How long to go on: so many inputs, or so many seconds.
enum Effort {
    Inputs(usize),
    Seconds(u64),
}

impl Effort {
    fn long() -> Self {
        let seconds = std::env::var("DISSIM_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok());
        Self::Seconds(seconds.unwrap_or(60))
    }
}

/// Feeds mutations of `corpus` to `look`; an input that it panics on is kept and named.
fn fuzz(name: &str, corpus: &[Vec<u8>], effort: &Effort, mut look: impl FnMut(&[u8])) {
    let mut random = Random(0x5eed);
    let (start, mut inputs) = (Instant::now(), 0);
    loop {
        let goes_on = match effort {
            Effort::Inputs(n) => inputs < *n,
            Effort::Seconds(s) => start.elapsed() < Duration::from_secs(*s),
        };
        if !goes_on {
            break;
        }
        let (of, other) = (random.below(corpus.len()), random.below(corpus.len()));
        let bytes = mutate(&mut random, &corpus[of], &corpus[other]);
        if catch_unwind(AssertUnwindSafe(|| look(&bytes))).is_err() {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
            fs::write(&kept, &bytes).unwrap();
            panic!("{name}: input {inputs} panics; it is in {}", kept.display());
        }
        inputs += 1;
    }
    println!("{name}: {inputs} inputs in {:.0} s", start.elapsed().as_secs_f64());
}

/// pipeline.yaml: a study, or errors with their places.
fn pipelines(effort: &Effort) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.yaml");
    let own = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline.yaml")).unwrap();
    let corpus = [own, PIPELINE.into(), SMALL.into()];
    let registry = Registry::builtin();
    fuzz("pipeline.yaml", &corpus, effort, |bytes| {
        fs::write(&file, bytes).unwrap();
        if let Err(errors) = parse::load(&file, &LoadOptions::default(), &registry) {
            assert!(!errors.render(false).is_empty());
        }
    });
}

/// Parameters of every kind: resolved, or errors. What is resolved resolves to itself.
fn parameters(effort: &Effort) {
    let registry = Registry::builtin();
    let corpus: Vec<Vec<u8>> = [
        r#"{"kind":"fetch","with":{"dataset":"mnist"}}"#,
        r#"{"kind":"dataset","with":{"n_bg":4,"seed":0,"n_train":1000,"n_val":200,"compose":"alpha","placement":"center","digit_colour":[255,0,9]}}"#,
        r#"{"kind":"train","with":{"method":"dissimilarity","lambda":1.25,"epochs":2,"batch_size":64,"lr":0.001,"model":"lenet5","seed":3}}"#,
        r#"{"kind":"train","with":{"method":"group_dro","eta":0.01,"lambda":{"target":0.5}}}"#,
        r#"{"kind":"command","with":{"run":["sh","a.sh"],"outputs":["x"],"inputs":["in"],"env":{"A":"1"},"matrix":{"i":1}}}"#,
        r#"{"kind":"evaluate","with":{}}"#,
        r#"{"kind":"aggregate","with":{}}"#,
        r#"{"kind":"report","with":{}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    fuzz("parameters", &corpus, effort, |bytes| {
        let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(bytes) else { return };
        let (Some(kind), Some(Value::Object(with))) = (map.get("kind"), map.get("with")) else {
            return;
        };
        let Some(stage) = kind.as_str().and_then(|kind| registry.get(kind)) else { return };
        if let Ok(resolved) = stage.resolve(with) {
            let _ = stage.files(&resolved);
            let again = stage.resolve(&resolved).expect("what is resolved is good");
            assert_eq!(again, resolved);
        }
    });
}

/// A store with a study in it, and where the record of its first task is.
struct Filled {
    study: Study,
    store: Store,
    key: Digest,
    record: PathBuf,
}

impl Filled {
    fn new() -> Self {
        let study = Study::small();
        for _ in 0..2 {
            assert_eq!(wait(&mut study.start()), Some(0));
        }
        let store = Store::open(&study.path().join("cache")).unwrap();
        let record = files(&study.path().join("cache/records")).remove(0);
        let name = record.file_stem().unwrap().to_str().unwrap().to_owned();
        Self { key: Digest::try_from(name).unwrap(), study, store, record }
    }
}

/// Records and manifests: what they were, or nothing.
fn records(effort: &Effort) {
    let filled = Filled::new();
    let (store, key) = (&filled.store, &filled.key);
    let good = store.record(key).unwrap();
    let corpus: Vec<_> = files(&filled.study.path().join("cache/records"))
        .iter()
        .map(|f| fs::read(f).unwrap())
        .collect();
    fuzz("records", &corpus, effort, |bytes| {
        // Without its checksum it is a record of an older build, of which only the key is proven.
        if !String::from_utf8_lossy(bytes).contains("\"check\"") {
            return;
        }
        fs::create_dir_all(filled.record.parent().unwrap()).unwrap();
        fs::write(&filled.record, bytes).unwrap();
        assert!(store.record(key).is_none_or(|record| record == good));
    });
    let artifact = &good.artifact;
    let tree = store.tree(artifact).unwrap();
    let folder = filled.study.path().join("cache/trees");
    let corpus: Vec<_> = files(&folder).iter().map(|f| fs::read(f).unwrap()).collect();
    let path = folder.join(artifact.shard()).join(format!("{artifact}.json"));
    fuzz("manifests", &corpus, effort, |bytes| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        fs::write(&path, bytes).unwrap();
        assert!(store.tree(artifact).is_none_or(|read| read == tree));
    });
}

/// The index and the remembered digests: right, or forgotten.
fn memories(effort: &Effort) {
    let filled = Filled::new();
    let (store, key) = (&filled.store, &filled.key);
    let cache = filled.study.path().join("cache");
    let hit = store.index().look_up(key).unwrap();
    let corpus = [fs::read(cache.join("index.bin")).unwrap()];
    fuzz("index.bin", &corpus, effort, |bytes| {
        fs::write(cache.join("index.bin"), bytes).unwrap();
        assert_eq!(store.index().look_up(key).as_ref(), Some(&hit));
    });
    let project = tempfile::tempdir().unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(60);
    fs::write(project.path().join("in"), "in").unwrap();
    fs::File::options()
        .write(true)
        .open(project.path().join("in"))
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    let expected = store.file_digests().digest(project.path(), Path::new("in")).unwrap();
    let mut remembered = store.file_digests();
    remembered.digest(project.path(), Path::new("in")).unwrap();
    remembered.save().unwrap();
    let corpus = [fs::read(cache.join("stats.bin")).unwrap()];
    fuzz("stats.bin", &corpus, effort, |bytes| {
        fs::write(cache.join("stats.bin"), bytes).unwrap();
        assert_eq!(store.file_digests().digest(project.path(), Path::new("in")).unwrap(), expected);
    });
}

/// Bundles: an error, or a store in which nothing is damaged; nothing outside of the target.
fn bundles(effort: &Effort) {
    let filled = Filled::new();
    let output = filled.study.dissim(&["export", "all.tar"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let corpus = [fs::read(filled.study.path().join("all.tar")).unwrap()];
    let folder = tempfile::tempdir().unwrap();
    fuzz("bundles", &corpus, effort, |bytes| {
        let file = folder.path().join("x.tar");
        fs::write(&file, bytes).unwrap();
        let target = folder.path().join("target");
        let store = Store::open(&target.join("cache")).unwrap();
        let _ = store.import(&file, &target);
        let verified = store.verify().unwrap();
        assert_eq!((verified.damage, verified.incomplete), (Vec::new(), Vec::new()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        fs::remove_dir_all(&target).unwrap();
    });
}

const TARGETS: [fn(&Effort); 5] = [pipelines, parameters, records, memories, bundles];

#[test]
fn mutations_of_real_files_are_answered() {
    TARGETS.iter().for_each(|target| target(&Effort::Inputs(80)));
}

#[test]
#[ignore = "a minute a target, or DISSIM_FUZZ_SECONDS"]
fn fuzz_for_minutes() {
    TARGETS.iter().for_each(|target| target(&Effort::long()));
}
