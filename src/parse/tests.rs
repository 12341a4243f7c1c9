//! What a reader of a bad pipeline.yaml is told: a table of mistakes, each with its whole message.

use std::fs;

use super::*;

/// The head of a file whose mistake is elsewhere.
const HEAD: &str = "version: 1\nname: t\n";

/// What `text` is told, with options for `--profile` and `--set`.
fn told_with(text: &str, options: &LoadOptions) -> String {
    // Where the mistake is elsewhere, the stages are good.
    let good = "stages: { s: { kind: fetch, with: { dataset: mnist } } }";
    let text = &text.replace("stages: {}", good);
    let mut errors = Vec::new();
    let study = parse(Path::new("pipeline.yaml"), text, options, &Registry::builtin(), &mut errors);
    if errors.is_empty() {
        let study = study.expect("no error and no study");
        let names: Vec<_> = study.tasks.iter().map(|t| t.name.as_str()).collect();
        return format!("good: {}\n", names.join(" "));
    }
    let name = "pipeline.yaml".to_owned();
    PipelineErrors::new(name, text.to_owned(), errors).render(false)
}

fn told(text: &str) -> String {
    told_with(text, &LoadOptions::default())
}

/// Every case with its title and its message, as one text for a snapshot.
fn table(cases: &[(&str, String)]) -> String {
    cases.iter().map(|(title, text)| format!("## {title}\n{}\n", told(text))).collect()
}

fn whole(cases: &[(&str, &str)]) -> String {
    let cases: Vec<_> = cases.iter().map(|(title, text)| (*title, (*text).to_owned())).collect();
    table(&cases)
}

/// Cases of what stands under [`HEAD`].
fn under_head(cases: &[(&str, &str)]) -> String {
    let cases: Vec<_> =
        cases.iter().map(|(title, text)| (*title, format!("{HEAD}{text}"))).collect();
    table(&cases)
}

/// Cases of a single stage `s` of kind `command`, each given as the lines of its body.
fn in_stage(cases: &[(&str, &str)]) -> String {
    let body = |text: &str| text.lines().map(|l| format!("    {l}\n")).collect::<String>();
    let cases: Vec<_> = cases
        .iter()
        .map(|(title, text)| (*title, format!("{HEAD}stages:\n  s:\n{}", body(text))))
        .collect();
    table(&cases)
}

#[test]
fn not_yaml() {
    insta::assert_snapshot!(whole(&[
        ("empty file", ""),
        ("only a comment", "# nothing yet\n"),
        ("a list", "- a\n- b\n"),
        ("a word", "hello\n"),
        ("a tab as indentation", "version: 1\nstages:\n\ts: {}\n"),
        ("a bracket that is not closed", "version: 1\nname: t\nstages: { a: { kind: command }\n"),
        ("a quote that is not closed", "version: 1\nname: \"t\nstages: {}\n"),
        ("a colon in plain text", "version: 1\nname: a: b\nstages: {}\n"),
        ("indentation that fits nothing", "version: 1\nstages:\n    a:\n  kind: x\n b: 2\n"),
        ("two documents", "version: 1\nname: t\nstages: {}\n---\nversion: 1\n"),
        ("an unknown alias", "version: 1\nname: *who\nstages: {}\n"),
        ("a control character", "version: 1\nname: \"a\u{1}b\"\nstages: {}\n"),
        ("a key that is a list", "version: 1\n[a, b]: 1\n"),
    ]));
}

#[test]
fn every_part_that_is_no_yaml_is_told() {
    insta::assert_snapshot!(whole(&[
        (
            "in three stages",
            "version: 1\nname: t\nstages:\n  a: { kind: command, with: { run: [a }\n  b:\n    kind: fetch\n    kind: command\n  # good\n  c: { kind: fetch }\n  d:\n    with: x: y\n",
        ),
        (
            "at the top and below, a quote over several lines",
            "version: 1\nname: a: b\nparams:\n  x: \"one\n    two\n  y: 1\nstages:\n  s: { kind: [fetch }\n",
        ),
        (
            "an alias of another part is no error",
            "version: 1\nname: t\nparams:\n  a: &a 1\n  b: [1\nstages:\n  s: { kind: command, with: *a }\n  t: { kind: command, with: }}\n",
        ),
        (
            "a duplicate beside a broken stage",
            "version: 1\nname: a\nname: b\nstages:\n  s: { kind: [fetch }\n"
        ),
        (
            "one stage indented by four",
            "version: 1\nname: t\nstages:\n    s: { kind: [fetch }\n    t: { kind: ]\n"
        ),
    ]));
}

#[test]
fn duplicate_keys() {
    insta::assert_snapshot!(whole(&[
        ("at the top", "version: 1\nname: a\nname: b\nstages: {}\n"),
        (
            "two stages of one name",
            "version: 1\nname: t\nstages:\n  a: { kind: fetch }\n  b: { kind: fetch }\n  a: { kind: fetch }\n",
        ),
        ("in a flow map", "version: 1\nname: t\nstages: { a: { kind: command, kind: fetch } }\n",),
        (
            "a parameter",
            "version: 1\nname: t\nparams:\n  seeds: 1\n  epochs: 2\n  seeds: 3\nstages: {}\n",
        ),
    ]));
}

#[test]
fn what_would_fill_the_memory() {
    let bomb = {
        let mut text =
            "version: 1\nname: t\nparams:\n  a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for i in 1..12 {
            let list = vec![format!("*a{}", i - 1); 9].join(", ");
            text += &format!("  a{i}: &a{i} [{list}]\n");
        }
        text + "stages: {}\n"
    };
    let deep = format!(
        "version: 1\nname: t\nparams: {{ a: {}1{} }}\nstages: {{}}\n",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let deep_blocks: String = (0..600).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    // Of a line with thousands of brackets only the message is of interest.
    let message = |text: &str| {
        let told = told(text);
        let lines = told.lines().filter(|l| !l.contains(" | "));
        lines.map(|l| format!("{l}\n")).collect::<String>()
    };
    let wide = "version: 1\nname: t\nstages:\n  s:\n    kind: command\n    matrix: { a: \"range(99999)\", b: \"range(99999)\" }\n    with: { run: [x], outputs: [y] }\n";
    let long = "version: 1\nname: t\nparams: { a: \"range(1000000000000)\" }\nstages: {}\n";
    insta::assert_snapshot!([bomb.as_str(), &deep, &deep_blocks].map(message).join("\n"));
    insta::assert_snapshot!("too_many_tasks", [wide, long].map(told).join("\n"));
}

#[test]
fn numbers() {
    insta::assert_snapshot!(under_head(&[
        ("not a number", "params: { a: .nan }\nstages: {}\n"),
        ("infinity", "params: { a: -.inf }\nstages: {}\n"),
        ("too large a whole number", "params: { a: 99999999999999999999 }\nstages: {}\n"),
        (
            "far too large a whole number",
            "params:\n  a: 123456789012345678901234567890123456789012345678901234567890\nstages: {}\n"
        ),
        ("a float that overflows", "params: { a: 1e999 }\nstages: {}\n"),
    ]));
}

#[test]
fn the_top_of_the_file() {
    insta::assert_snapshot!(whole(&[
        ("no version", "name: t\nstages: {}\n"),
        ("another version", "version: 2\nname: t\nstages: {}\n"),
        ("version as text", "version: \"1\"\nname: t\nstages: {}\n"),
        ("no name", "version: 1\nstages: {}\n"),
        ("an empty name", "version: 1\nname: ''\nstages: {}\n"),
        ("name is a number", "version: 1\nname: 7\nstages: {}\n"),
        ("no stages", "version: 1\nname: t\n"),
        ("stages are a list", "version: 1\nname: t\nstages:\n  - a\n"),
        ("stages with nothing in them", "version: 1\nname: t\nstages:\n"),
        ("an empty map of stages", "version: 1\nname: t\nstages: { }\n"),
        ("a key with a typo", "version: 1\nname: t\nstage: {}\nstages: {}\n"),
        ("a key like none", "version: 1\nname: t\nfrobnicate: 3\nstages: {}\n"),
        ("everything missing", "{}\n"),
    ]));
    insta::assert_snapshot!(
        "backend_profile_claims",
        under_head(&[
            ("an unknown backend", "backend: flax\nstages: {}\n"),
            ("an unknown device", "device: gpu\nstages: {}\n"),
            ("a GPU that is none", "backend: flex\ndevice: cuda:one\nstages: {}\n"),
            ("a GPU for the CPU's backend", "device: cuda:0\nstages: {}\n"),
            (
                "a default profile that is not there",
                "default_profile: quik\nprofiles: { quick: {} }\nstages: {}\n"
            ),
            ("a default profile and no profiles", "default_profile: quick\nstages: {}\n"),
            ("a profile that is a list", "profiles: { quick: [1] }\nstages: {}\n"),
            ("params are a list", "params: [1]\nstages: {}\n"),
        ])
    );
}

#[test]
fn stages() {
    insta::assert_snapshot!(under_head(&[
        ("a name with a space", "stages:\n  my stage: { kind: fetch }\n"),
        ("a name that starts with a digit", "stages:\n  1st: { kind: fetch }\n"),
        ("a stage that is text", "stages:\n  s: train\n"),
        ("no kind", "stages:\n  s: { with: { dataset: mnist } }\n"),
        ("an unknown kind, close to one", "stages:\n  s: { kind: comand }\n"),
        ("an unknown kind, close to none", "stages:\n  s: { kind: teleport }\n"),
        ("kind is a list", "stages:\n  s: { kind: [fetch] }\n"),
        ("a typo in a key", "stages:\n  s: { kind: fetch, wiht: { dataset: mnist } }\n"),
        (
            "a stage that needs itself",
            "stages:\n  s: { kind: command, needs: { x: s }, with: { run: [a], outputs: [b] } }\n"
        ),
        (
            "a circle",
            "stages:\n  a: { kind: command, needs: { x: b }, with: { run: [a], outputs: [b] } }\n  b: { kind: command, needs: { x: c }, with: { run: [a], outputs: [b] } }\n  c: { kind: command, needs: { x: a }, with: { run: [a], outputs: [b] } }\n"
        ),
        (
            "a required input that is missing",
            "stages:\n  d: { kind: dataset, needs: { digits: x } }\n  x: { kind: fetch, with: { dataset: mnist } }\n"
        ),
        (
            "an input the kind does not have",
            "stages:\n  x: { kind: fetch, with: { dataset: mnist } }\n  e: { kind: evaluate, needs: { model: x, data: x, modle: x } }\n"
        ),
    ]));
    insta::assert_snapshot!(
        "needs_matrix_sweeps",
        in_stage(&[
            (
                "needs a stage that is not there",
                "kind: command\nneeds: { x: t }\nwith: { run: [a], outputs: [b] }"
            ),
            ("needs is a list", "kind: command\nneeds: [t]\nwith: { run: [a], outputs: [b] }"),
            ("needs a number", "kind: command\nneeds: { x: 3 }\nwith: { run: [a], outputs: [b] }"),
            (
                "a bracket that is not closed",
                "kind: command\nneeds: { x: \"t[a=1\" }\nwith: { run: [a], outputs: [b] }"
            ),
            (
                "a matrix that is a list",
                "kind: command\nmatrix: [1, 2]\nwith: { run: [a], outputs: [b] }"
            ),
            (
                "an axis without values",
                "kind: command\nmatrix: { seed: [] }\nwith: { run: [a], outputs: [b] }"
            ),
            (
                "an axis that is a map",
                "kind: command\nmatrix: { seed: { a: 1 } }\nwith: { run: [a], outputs: [b] }"
            ),
            (
                "matrix and sweeps",
                "kind: command\nmatrix: { seed: [1] }\nsweeps: { a: { seed: [2] } }\nwith: { run: [a], outputs: [b] }"
            ),
            ("empty sweeps", "kind: command\nsweeps: {}\nwith: { run: [a], outputs: [b] }"),
            (
                "sweeps without a name",
                "kind: command\nsweeps: { seed: [1, 2] }\nwith: { run: [a], outputs: [b] }"
            ),
        ])
    );
}

#[test]
fn references() {
    insta::assert_snapshot!(under_head(&[
        (
            "a parameter that is not there",
            "params: { seeds: 3 }\nstages:\n  s: { kind: command, matrix: { seed: \"range(${seed})\" }, with: { run: [a], outputs: [b] } }\n"
        ),
        (
            "no parameters at all",
            "stages:\n  s: { kind: command, matrix: { seed: \"${seed}\" }, with: { run: [a], outputs: [b] } }\n"
        ),
        (
            "text around a reference",
            "params: { a: 1 }\nstages:\n  s: { kind: command, with: { run: [\"x-${a}\"], outputs: [b] } }\n"
        ),
        ("a circle of parameters", "params:\n  a: \"${b}\"\n  b: \"${a}\"\nstages: {}\n"),
        ("a range that is none", "params: { a: \"range(1, 2, 3, 4)\" }\nstages: {}\n"),
        ("a range of nothing", "params: { a: \"range()\" }\nstages: {}\n"),
        ("a range by zero", "params: { a: \"range(0, 5, 0)\" }\nstages: {}\n"),
        ("a range of text", "params: { a: \"range(ten)\" }\nstages: {}\n"),
        ("a range over a list", "params: { n: [1, 2], a: \"range(${n})\" }\nstages: {}\n"),
        (
            "an empty range as an axis",
            "params: { n: 0 }\nstages:\n  s: { kind: command, matrix: { seed: \"range(${n})\" }, with: { run: [a], outputs: [b] } }\n"
        ),
    ]));
}

#[test]
fn parameters_of_stages() {
    insta::assert_snapshot!(in_stage(&[
        ("an unknown parameter", "kind: fetch\nwith: { datset: mnist }"),
        ("a wrong type", "kind: command\nwith: { run: make, outputs: [a] }"),
        ("a value that is not among the choices", "kind: fetch\nwith: { dataset: mnsit }"),
        (
            "a path that leaves the project",
            "kind: command\nwith: { run: [a], outputs: [b], inputs: [../x] }"
        ),
        (
            "an absolute path",
            "kind: command\nwith: { run: [a], outputs: [b], code: [/etc/passwd] }"
        ),
        ("with is a list", "kind: command\nwith: [run, a]"),
        ("neither run nor shell", "kind: command\nwith: { outputs: [a] }"),
        (
            "an axis that is no parameter of its kind",
            "kind: fetch\nmatrix: { datset: [mnist] }\nwith: { dataset: mnist }"
        ),
        (
            "an axis that `with` fixes too",
            "kind: fetch\nmatrix: { dataset: [mnist, cifar10] }\nwith: { dataset: mnist }"
        ),
    ]));
    insta::assert_snapshot!(
        "training",
        under_head(&[(
            "out of range and unknown at once",
            "stages:\n  t:\n    kind: train\n    needs: { data: nowhere }\n    with: { epochs: -3, batch_sise: 64, lr: fast }\n"
        ),])
    );
}

#[test]
fn all_errors_at_once() {
    insta::assert_snapshot!(told(
        "version: 3\nname: ''\ndefault_profile: fast\nprofiles: { quick: { seeds: 1 } }\nstages:\n  \
         a: { kind: fetsh }\n  b: { kind: fetch, wth: {}, with: { dataset: mnits } }\n  \
         c: { kind: command, needs: { x: d }, with: { run: [a], outputs: [b] } }\nclaim: []\n"
    ));
}

#[test]
fn the_command_line() {
    let text = "version: 1\nname: t\nparams: { seeds: 2 }\nprofiles: { quick: { seeds: 1 } }\nstages:\n  \
                s: { kind: command, matrix: { seed: \"range(${seeds})\" }, with: { run: [a], outputs: [b] } }\n";
    let set = |sets: &[&str]| {
        let set = sets.iter().map(|s| (*s).to_owned()).collect();
        told_with(text, &LoadOptions { profile: None, set })
    };
    let profile = told_with(text, &LoadOptions { profile: Some("quik".into()), set: Vec::new() });
    insta::assert_snapshot!(
        [
            set(&["seeds=1"]),
            set(&["params.seeds=3"]),
            set(&["stages.s.with.outputs=[c]"]),
            set(&["seds=1"]),
            set(&["seeds"]),
            set(&["seeds=[1"]),
            set(&["stages.t.with.outputs=[c]"]),
            set(&["seeds=0", "stages.s.kind=comand"]),
            profile,
        ]
        .join("\n")
    );
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let told = |name: &str| {
        let file = folder.path().join(name);
        let error = load(&file, &LoadOptions::default(), &Registry::builtin());
        let text = error.err().expect("it cannot be read").to_string();
        text.replace(folder.path().to_str().unwrap(), "FOLDER")
    };
    fs::create_dir(folder.path().join("folder")).unwrap();
    fs::write(folder.path().join("latin1.yaml"), b"version: 1\nname: caf\xe9\n").unwrap();
    let large = fs::File::create(folder.path().join("large.yaml")).unwrap();
    large.set_len(LARGEST + 1).unwrap();
    fs::write(folder.path().join("zeros.yaml"), [0; 64]).unwrap();
    let names = ["none.yaml", "folder", "latin1.yaml", "large.yaml", "zeros.yaml"];
    insta::assert_snapshot!(names.map(told).join("\n"));
}

proptest::proptest! {
    /// Whatever is written, reading it gives a study or errors, and never panics.
    #[test]
    fn any_text_is_answered(text in "[a-z0-9:{}\\[\\], \n\"'&*!|>${}()#-]{0,200}") {
        let _ = told(&format!("{HEAD}{text}"));
        let _ = told(&text);
    }
}

#[test]
fn the_shared_store() {
    let store = |text: &str| format!("store: {text}\nstages: {{}}\n");
    let cases = [
        ("no map", "s3://b"),
        ("no remote", "{ mode: read }"),
        ("no address", "{ remote: bucket }"),
        ("no scheme that is known", "{ remote: \"ftp://b\" }"),
        ("a password", "{ remote: \"https://me:secret@host/x\" }"),
        ("a signature", "{ remote: \"https://host/x?sig=secret\" }"),
        ("a mode like none", "{ remote: \"s3://b\", mode: write }"),
        ("a key with a typo", "{ remote: \"s3://b\", mod: read }"),
        ("keys that are none", "{ remote: \"s3://b\", trusted: [abc] }"),
        ("nobody is trusted", "{ remote: \"s3://b\", trusted: [] }"),
        ("too short a lease", "{ remote: \"s3://b\", lease: 1s }"),
        ("several at once", "{ remote: 3, mode: 4, lease: soon }"),
        ("as it should be", "{ remote: \"s3://b/x\", mode: readwrite, lease: 2m }"),
    ];
    let cases: Vec<_> = cases.map(|(title, text)| (title, store(text))).to_vec();
    let cases: Vec<_> = cases.iter().map(|(title, text)| (*title, text.as_str())).collect();
    insta::assert_snapshot!(under_head(&cases));
}

#[test]
fn executors() {
    let slurm = |text: &str| format!("executors: {text}\nstages: {{}}\n");
    let cases = [
        ("no map", "slurm"),
        ("an executor like none", "{ slrum: { partition: p } }"),
        ("slurm as text", "{ slurm: gpu }"),
        ("a key with a typo", "{ slurm: { partion: p } }"),
        ("numbers that are none", "{ slurm: { cpus: 0, array: many, at_once: -1, memory: lots } }"),
        ("times that are none", "{ slurm: { time: soon, poll: 0s } }"),
        ("a list where a text is", "{ slurm: { partition: [a, b], gres: '' } }"),
        ("a text where a list is", "{ slurm: { modules: cuda, extra: [1] } }"),
        ("a line break", "{ slurm: { account: \"a\\nb\" } }"),
        ("nothing said", "{ slurm: }"),
        (
            "all of it",
            "{ slurm: { partition: p, account: a, time: 2h, cpus: 2, memory: 4GB, gres: \"gpu:1\", modules: [m], extra: [--nice=1], array: 10, at_once: 20, poll: 1s } }",
        ),
    ];
    let cases: Vec<_> = cases.map(|(title, text)| (title, slurm(text))).to_vec();
    let cases: Vec<_> = cases.iter().map(|(title, text)| (*title, text.as_str())).collect();
    insta::assert_snapshot!(under_head(&cases));
}
