//! A run that has nothing to do may take a short way. It must never take it when anything changed.

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use support::{Small, files};
use walkdir::WalkDir;

/// A project whose runs have nothing to do, and of which a run has noted that.
fn unchanged() -> Small {
    let project = Small::new();
    fs::create_dir(project.path().join("data")).unwrap();
    fs::write(project.path().join("data/a.txt"), "a\n").unwrap();
    project.edit("inputs: [names.txt]", "inputs: [names.txt, data]");
    project.succeed("run");
    // Files of the last two seconds are not believed to be settled.
    for entry in WalkDir::new(project.path()).contents_first(true) {
        age(entry.unwrap().path());
    }
    project.succeed("run");
    assert_eq!(files(&project.path().join("cache/unchanged")).len(), 1);
    project
}

/// Sets the time of a file or folder to an hour ago.
fn age(path: &Path) {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::open(path).unwrap().set_modified(hour_ago).unwrap();
}

/// Runs; says how many tasks were cached and ran, and which way it took: the long one writes the index
/// anew where it is gone.
fn run(project: &Small) -> String {
    let index = project.path().join("cache/index.bin");
    let _ = fs::remove_file(&index);
    let said = project.succeed("run");
    let way = if index.exists() { "long" } else { "short" };
    format!("{} ({way})", said.split(" failed").next().unwrap_or_default())
}

const SHORT: &str = "5 tasks: 5 cached, 0 ran, 0 (short)";

#[test]
fn nothing_changed_is_seen_without_reading_the_pipeline() {
    let project = unchanged();
    assert_eq!(run(&project), SHORT);
    assert_eq!(run(&project), SHORT);
    // It is a run like any other in the history, with the keys of its tasks.
    assert_eq!(project.succeed("runs").lines().count(), 1 + 4);
    let shown = project.succeed("show last --json");
    assert!(shown.contains("say[word=one]") && shown.contains("\"cached\": 5"), "{shown}");
    // Who wants to hear of every task does.
    let events = project.succeed("run --json");
    assert_eq!(events.matches("\"event\":\"cached\"").count(), 5, "{events}");
    // Another question is another answer.
    let said = project.succeed("run say");
    assert!(said.starts_with("2 tasks: 2 cached"), "{said}");
    let said = project.succeed("run --set times=3");
    assert!(said.starts_with("5 tasks: 3 cached, 2 ran"), "{said}");
}

/// What is done to a project, and what the next run must come to.
type Case = (&'static str, fn(&Small), &'static str);

const CASES: [Case; 9] = [
    ("a parameter", |p| p.edit("times: 2", "times: 3"), "5 tasks: 3 cached, 2 ran, 0 (long)"),
    (
        "a file of the same size, with its old time",
        |p| {
            let file = p.path().join("names.txt");
            fs::write(&file, "we\n").unwrap();
            age(&file);
        },
        "5 tasks: 0 cached, 5 ran, 0 (long)",
    ),
    (
        "a file that is new in a folder",
        |p| fs::write(p.path().join("data/b.txt"), "b\n").unwrap(),
        // What the program says is the same, so the rest is cut off.
        "5 tasks: 3 cached, 2 ran, 0 (long)",
    ),
    (
        "a file that is gone from a folder",
        |p| {
            fs::write(p.path().join("data/b.txt"), "b\n").unwrap();
            p.succeed("run");
            fs::remove_file(p.path().join("data/a.txt")).unwrap();
        },
        "5 tasks: 3 cached, 2 ran, 0 (long)",
    ),
    (
        "a blob that is gone",
        |p| fs::remove_file(p.object_of("say[word=one]", "said.txt")).unwrap(),
        "5 tasks: 4 cached, 1 ran, 0 (long)",
    ),
    (
        "a blob that is shorter",
        |p| {
            let blob = p.object_of("say[word=one]", "said.txt");
            fs::remove_file(&blob).unwrap();
            fs::write(&blob, "one").unwrap();
        },
        "5 tasks: 4 cached, 1 ran, 0 (long)",
    ),
    (
        "a record that is cut short where it stands",
        |p| {
            let record = p.record_of("count");
            let bytes = fs::read(&record).unwrap();
            fs::write(&record, &bytes[..bytes.len() / 2]).unwrap();
        },
        "5 tasks: 4 cached, 1 ran, 0 (long)",
    ),
    (
        "a manifest that is damaged where it stands",
        |p| overwrite(&p.tree_of("count")),
        "5 tasks: 4 cached, 1 ran, 0 (long)",
    ),
    (
        "what was noted is damaged",
        |p| files(&p.path().join("cache/unchanged")).iter().for_each(|file| overwrite(file)),
        "5 tasks: 5 cached, 0 ran, 0 (long)",
    ),
];

/// Changes a byte in the middle of a file, and neither its size nor its inode.
fn overwrite(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

#[test]
fn whatever_changed_is_seen() {
    for (what, change, expected) in CASES {
        let project = unchanged();
        assert_eq!(run(&project), SHORT, "before: {what}");
        change(&project);
        assert_eq!(run(&project), expected, "{what}");
    }
}

/// What a run with nothing to do costs at 10,000 and at 100,000 tasks, each with a file of its own:
/// `cargo test --release --workspace --test unchanged -- --ignored --nocapture`. The store is filled
/// here as a run would fill it, but without a process for every task.
#[test]
fn a_linked_pipeline_has_the_store_of_its_own_folder() {
    let project = unchanged();
    let other = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for name in ["say.sh", "names.txt"] {
        fs::copy(project.path().join(name), other.path().join(name)).unwrap();
    }
    fs::create_dir(other.path().join("data")).unwrap();
    fs::write(other.path().join("data/a.txt"), "a\n").unwrap();
    std::os::unix::fs::symlink(
        project.path().join("pipeline.yaml"),
        other.path().join("pipeline.yaml"),
    )
    .unwrap();
    let said = Small::told_in(other.path(), "run");
    assert!(said.contains("5 tasks: 0 cached, 5 ran"), "{said}");
    assert!(other.path().join("cache/records").is_dir());
}

#[test]
#[ignore = "minutes, and 1 GB of small files"]
fn the_cost_grows_with_the_number_of_tasks() {
    for n in [10_000, 100_000] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        many(folder.path(), n);
        let long = cost(folder.path(), n);
        for entry in WalkDir::new(folder.path()).contents_first(true) {
            let entry = entry.unwrap();
            if entry.file_type().is_dir() || entry.path().starts_with(folder.path().join("in")) {
                age(entry.path());
            }
        }
        let noting = cost(folder.path(), n);
        let short: Vec<_> = (0..5).map(|_| cost(folder.path(), n)).collect();
        println!("{n} tasks: first {long}; noting {noting}; short {}", short.join("; "));
        assert_eq!(files(&folder.path().join("cache/unchanged")).len(), 1);
    }
}

/// A project of `n` tasks that read a file each, all of them done.
fn many(folder: &Path, n: usize) {
    use dissim::plan::{Planner, State};
    fs::create_dir(folder.join("in")).unwrap();
    let mut lists = String::new();
    for i in 0..n {
        fs::write(folder.join(format!("in/{i}")), i.to_string()).unwrap();
        lists += &format!("      [in/{i}],\n");
    }
    let text = format!(
        "version: 1\nname: many\nstages:\n  copy:\n    kind: command\n    matrix: {{ inputs: [\n{lists}    ] }}\n    with: {{ shell: 'cat in/* > out', outputs: [out] }}\n"
    );
    fs::write(folder.join("pipeline.yaml"), text).unwrap();
    let (options, registry) = (Default::default(), dissim::registry::Registry::builtin());
    let study = dissim::parse::load(&folder.join("pipeline.yaml"), &options, &registry);
    let study = study.unwrap_or_else(|e| panic!("{e}"));
    let store = dissim::store::Store::open(&study.root.join("cache")).unwrap();
    let mut planner = Planner::new(&study, &store);
    let log = store.put(b"").unwrap();
    for (task, state) in planner.plan().into_iter().enumerate() {
        let State::Miss(description) = state else { panic!("task {task} is no miss") };
        let output = folder.join("output");
        fs::create_dir_all(&output).unwrap();
        fs::write(output.join("out"), task.to_string()).unwrap();
        let record = dissim::store::Record {
            version: dissim::store::Record::VERSION,
            key: description.key(),
            task: study.tasks[task].name.clone(),
            description: *description,
            artifact: store.commit(&output).unwrap(),
            started: 0,
            duration_s: 0.01,
            peak_memory_bytes: 0,
            host: String::new(),
            log: log.clone(),
            metrics: Default::default(),
            dissim: String::new(),
            check: None,
        };
        let (_, code) = planner.code(task);
        store.put_record(&record, &code, dissim::store::Durable::Now).unwrap();
    }
    store.sync().unwrap();
    planner.save();
}

/// Wall time, processor time and peak memory of a run in which all `n` tasks are cached.
fn cost(folder: &Path, n: usize) -> String {
    use std::process::{Command, Stdio};
    use wait4::Wait4;
    let start = std::time::Instant::now();
    let mut run = Command::new(env!("CARGO_BIN_EXE_dissim"))
        .arg("run")
        .current_dir(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The system's own figure begins with what this process holds: it is asked while the run goes on.
    let mut most = 0;
    let status = format!("/proc/{}/status", run.id());
    let held = || {
        let text = fs::read_to_string(&status).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    while let Some(kilobytes) = held() {
        most = most.max(kilobytes);
        std::thread::sleep(Duration::from_millis(2));
    }
    let said = std::io::read_to_string(run.stdout.take().unwrap()).unwrap();
    let used = run.wait4().unwrap().rusage;
    let wall = start.elapsed().as_secs_f64();
    assert!(said.starts_with(&format!("{n} tasks: {n} cached")), "{said}");
    let cpu = (used.utime + used.stime).as_secs_f64();
    format!("{wall:.2} s ({cpu:.2} s of processor, {} MB)", most / 1000)
}

#[test]
fn a_shared_store_and_a_cluster_are_not_asked_and_what_was_lost_comes_from_there() {
    let project = unchanged();
    let shared = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (there, aside) = (shared.path().join("there"), shared.path().join("aside"));
    let store = format!("store: {{ remote: \"file://{}\", mode: readwrite }}", there.display());
    project.edit("name: small\n", &format!("name: small\n{store}\n"));
    age(&project.path().join("pipeline.yaml"));
    assert!(project.succeed("cache push").starts_with("5 results sent"));
    assert_eq!(run(&project), "5 tasks: 5 cached, 0 ran, 0 (long)");
    // With nobody there.
    fs::rename(&there, &aside).unwrap();
    assert_eq!(run(&project), SHORT);
    let said = project.succeed("run --executor slurm");
    assert!(said.starts_with("5 tasks: 5 cached, 0 ran, 0 failed"), "{said}");
    assert!(!there.exists());
    fs::rename(&aside, &there).unwrap();
    let log = "cache/objects/af/af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    for object in files(&project.path().join("cache/objects")) {
        // Not the empty log, which no hit needs.
        if !object.ends_with(log) {
            fs::remove_file(object).unwrap();
        }
    }
    assert_eq!(run(&project), "5 tasks: 5 cached, 0 ran, 0 (long)");
    assert!(files(&project.path().join("cache/objects")).len() > 1);
}
