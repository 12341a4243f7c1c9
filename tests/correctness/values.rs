//! Values: from pipeline.yaml to a program, as they were written.

use crate::fixture::{Study, Told};

/// A command that prints the variable of axis `x` to `out`, with this list as the axis.
fn echo(axis: &str) -> Study {
    Study::new(&format!(
        "t:\n  kind: command\n  matrix: {{ x: {axis} }}\n  \
         with: {{ shell: 'printf %s \"$DISSIM_MATRIX_X\" > out', outputs: [out] }}"
    ))
}

/// The errors of a study, with the file's name alone in front of places.
fn errors(study: &Study, arguments: &[&str]) -> String {
    let Told { stdout, stderr, code } = study.dissim(arguments);
    assert_eq!(code, Some(2), "{stdout}{stderr}");
    stderr
}

/// The number of errors.
fn count(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("error: ")).count()
}

#[test]
fn numbers_reach_a_program_as_written() {
    let numbers = [
        "3.10",
        "1e2",
        "1.0",
        "1e-3",
        "+5",
        "1234567e8",
        "0x1F",
        "0o17",
        ".5",
        "7.",
        "-0",
        "1E+2x",
    ];
    let study = echo(&format!("[{}]", numbers.join(", ")));
    study.dissim(&["run"]).ended(0);
    for number in numbers {
        assert_eq!(study.output(&format!("t[x={number}]"), "out"), number);
    }
}

#[test]
fn words_that_yaml_1_1_types_are_text() {
    let words = ["no", "on", "y", "yes", "off", "n", "No", "1:30", "2024-01-01", "1.2.3"];
    let study = echo(&format!("[{}]", words.join(", ")));
    study.dissim(&["run"]).ended(0);
    for word in words {
        assert_eq!(study.output(&format!("t[x={word}]"), "out"), word);
    }
}

#[test]
fn ambiguous_numbers_are_refused() {
    for value in
        ["001", "08", "0123456", "1_000", "0b11", "12e4567", "99999999999999999999", "0X1F", ".inf"]
    {
        for study in [
            echo(&format!("[{value}, a]")),
            Study::with_head(
                &format!("params: {{ v: {value} }}"),
                "t:\n  kind: command\n  matrix: { x: \"${v}\" }\n  with: { shell: ':', outputs: [out] }",
            ),
            Study::new(&format!(
                "t:\n  kind: command\n  with: {{ run: [a, {value}], outputs: [out] }}"
            )),
        ] {
            let told = errors(&study, &["run"]);
            assert_eq!(count(&told), 1, "{told}");
            let help = format!("help: write it in quotes if it is text: \"{value}\"");
            assert!(told.contains(&help), "{told}");
        }
    }
}

#[test]
fn set_reads_values_the_same_way() {
    let study = Study::with_head(
        "params: { s: [1] }",
        "t:\n  kind: command\n  matrix: { x: \"${s}\" }\n  \
         with: { shell: 'printf %s \"$DISSIM_MATRIX_X\" > out', outputs: [out] }",
    );
    study.dissim(&["run", "--set", "s=[3.10, no]"]).ended(0);
    let status = study.dissim(&["plan", "--set", "s=[3.10, no]", "--json"]).ended(0);
    assert!(!status.stdout.is_empty());
    let told = errors(&study, &["run", "--set", "s=001"]);
    insta::assert_snapshot!(told, @r#"
    error: `001` begins with a zero, so that it could be text or a number
      --> --set s=001
      help: write it in quotes if it is text: "001"

    1 error in pipeline.yaml; nothing was run
    "#);
}

#[test]
fn one_value_written_in_two_ways_is_refused() {
    let told = errors(&echo("[1.10, 1.1]"), &["run"]);
    insta::assert_snapshot!(told, @r#"
    error: `1.10` and `1.1` on axis `x` are one value, written differently
      --> pipeline.yaml:7:25
    7 |     matrix: { x: [1.10, 1.1] }
      |                         ^^^
      help: write them the same way, or in quotes if they are text: "1.10", "1.1"

    1 error in pipeline.yaml; nothing was run
    "#);
    let study = Study::new(
        "t:\n  kind: command\n  sweeps: { a: { x: [1] }, b: { x: [1.0, 2] } }\n  \
         with: { shell: ':', outputs: [out] }",
    );
    assert_eq!(count(&errors(&study, &["run"])), 1);
}

#[test]
fn a_quoted_number_is_the_same_task() {
    let study = echo("[3.10]");
    study.dissim(&["run"]).ended(0);
    study.edit("[3.10]", "[\"3.10\"]");
    let told = study.dissim(&["run"]).ended(0);
    assert!(told.stdout.starts_with("1 task: 1 cached, 0 ran"), "{}", told.stdout);
}

#[test]
fn names_are_checked() {
    for (stages, name) in [
        ("t:\n  kind: command\n  matrix: { a/b: [1] }", "an axis"),
        ("t:\n  kind: command\n  matrix: { ..: [1] }", "an axis"),
        ("t:\n  kind: command\n  matrix: { \"\": [1] }", "an axis"),
        ("t:\n  kind: command\n  matrix: { -a: [1] }", "an axis"),
        ("t:\n  kind: command\n  sweeps: { s: { .a: [1] } }", "an axis"),
        ("t:\n  kind: command\n  needs: { /any/where: u }", "an input"),
        ("t:\n  kind: command\n  needs: { ../x: u }", "an input"),
        ("t:\n  kind: command\n  needs: { a.b: u }", "an input"),
    ] {
        let stages = format!(
            "u: {{ kind: command, with: {{ shell: ':', outputs: [out] }} }}\n{stages}\n  \
             with: {{ shell: ':', outputs: [out] }}"
        );
        let told = errors(&Study::new(&stages), &["run"]);
        assert_eq!(count(&told), 1, "{told}");
        assert!(told.contains(&format!("is not a name for {name}")), "{told}");
    }
    let long = "a".repeat(260);
    for stages in [
        format!("{long}:\n  kind: command\n  with: {{ shell: ':', outputs: [out] }}"),
        format!(
            "t:\n  kind: command\n  matrix: {{ {long}: [1] }}\n  with: {{ shell: ':', outputs: [out] }}"
        ),
    ] {
        assert_eq!(count(&errors(&Study::new(&stages), &["run"])), 1);
    }
}

#[test]
fn names_that_share_a_variable_are_refused() {
    let axes = Study::new(
        "t:\n  kind: command\n  matrix: { lr: [0.1], LR: [0.2, 0.3] }\n  with: { shell: ':', outputs: [out] }",
    );
    insta::assert_snapshot!(errors(&axes, &["run"]), @r"
    error: the axes `lr` and `LR` have the same environment variable, `DISSIM_MATRIX_LR`
      --> pipeline.yaml:7:26
    7 |     matrix: { lr: [0.1], LR: [0.2, 0.3] }
      |                          ^^
      help: rename one of them

    1 error in pipeline.yaml; nothing was run
    ");
    let sweeps = Study::new(
        "t:\n  kind: command\n  sweeps: { a: { a-b: [1] }, b: { a_b: [2] } }\n  with: { shell: ':', outputs: [out] }",
    );
    assert_eq!(count(&errors(&sweeps, &["run"])), 1);
    let inputs = Study::new(
        "u: { kind: command, with: { shell: ':', outputs: [out] } }\n\
         t:\n  kind: command\n  needs: { a-b: u, A_B: u }\n  with: { shell: ':', outputs: [out] }",
    );
    insta::assert_snapshot!(errors(&inputs, &["run"]), @r"
    error: the inputs `a-b` and `A_B` have the same environment variable, `DISSIM_INPUT_A_B`
      --> pipeline.yaml:8:22
    8 |     needs: { a-b: u, A_B: u }
      |                      ^^^
      help: rename one of them

    1 error in pipeline.yaml; nothing was run
    ");
}

#[test]
fn a_range_without_quotes_is_refused() {
    let told = errors(&echo("range(10, 26)"), &["run"]);
    insta::assert_snapshot!(told, @r#"
    error: `range(10, 26)` must be in quotes: within brackets, a comma ends a value
      --> pipeline.yaml:7:18
    7 |     matrix: { x: range(10, 26) }
      |                  ^^^^^^^^
      help: write "range(10, 26)"

    1 error in pipeline.yaml; nothing was run
    "#);
    let told = errors(&echo("range(0, ${n})"), &["run"]);
    assert!(told.contains("help: write a range with a reference in quotes"), "{told}");
    for axis in ["[range(10, 26)]", "\"range(ten\"", "range(1) and more", "\"range(a, b)\""] {
        let told = errors(&echo(axis), &["run"]);
        assert_eq!(count(&told), 1, "{told}");
    }
}

#[test]
fn an_axis_needs_a_value() {
    for axis in ["", "null", "~"] {
        let told = errors(&echo(axis), &["run"]);
        assert!(told.contains("axis `x` has no value"), "{told}");
        assert_eq!(count(&told), 1, "{told}");
    }
    let left_out = Study::new(
        "t:\n  kind: command\n  matrix:\n    x:\n      - 1\n      -\n  with: { shell: ':', outputs: [out] }",
    );
    assert!(errors(&left_out, &["run"]).contains("a value of axis `x` was left out"));
    let study = echo("[null, 1]");
    study.dissim(&["run"]).ended(0);
    assert_eq!(study.output("t[x=null]", "out"), "null");
}

/// A stage whose axis is the parameter `epochs`, with these lines before `stages:`.
fn profiles(head: &str) -> Study {
    Study::with_head(
        head,
        "t:\n  kind: command\n  matrix: { e: \"${epochs}\" }\n  \
         with: { shell: 'printf %s \"$DISSIM_MATRIX_E\" > out', outputs: [out] }",
    )
}

#[test]
fn unknown_profile_key_is_an_error() {
    let study = profiles("params: { epochs: 10 }\nprofiles: { quick: { epohcs: 1 } }");
    let told = errors(&study, &["run", "--profile", "quick"]);
    insta::assert_snapshot!(told, @r"
    error: no parameter or path `epohcs`
      --> pipeline.yaml:4:22
    4 | profiles: { quick: { epohcs: 1 } }
      |                      ^^^^^^
      help: did you mean `epochs`?

    1 error in pipeline.yaml; nothing was run
    ");
    // Every profile is checked, whichever is in use.
    assert_eq!(errors(&study, &["run"]), told);
    assert_eq!(count(&errors(&study, &["run", "--set", "epohcs=1"])), 2);
}

#[test]
fn a_profile_sets_values_of_stages() {
    let tasks = |study: &Study, arguments: &[&str]| {
        let told = study.dissim(&[&["run", "--dry-run"], arguments].concat()).ended(0);
        told.stdout.lines().filter_map(|l| l.split_whitespace().nth(2)).next().unwrap().to_owned()
    };
    let head = "params: { epochs: 10 }\nprofiles:\n  nested: { stages: { t: { matrix: { e: [9] } } } }\n  \
                path: { stages.t.matrix.e: [8] }";
    let study = profiles(head);
    assert_eq!(tasks(&study, &[]), "t[e=10]");
    assert_eq!(tasks(&study, &["--profile", "nested"]), "t[e=9]");
    assert_eq!(tasks(&study, &["--profile", "path"]), "t[e=8]");
    assert_eq!(tasks(&study, &["--profile", "path", "--set", "stages.t.matrix.e=7"]), "t[e=7]");
    study.edit("stages.t.matrix.e", "stages.u.matrix.e");
    insta::assert_snapshot!(errors(&study, &["run"]), @r"
    error: no parameter or path `stages.u.matrix.e`
      --> pipeline.yaml:6:11
    6 |   path: { stages.u.matrix.e: [8] }
      |           ^^^^^^^^^^^^^^^^^
      help: `stages` has t

    1 error in pipeline.yaml; nothing was run
    ");
    study.edit("stages.u.matrix.e", "stages.t.matrx.e");
    let told = errors(&study, &["run"]);
    assert!(told.contains("unknown key `matrx` in stage `t`") && count(&told) == 1, "{told}");
}

#[test]
fn set_reaches_into_a_parameter_that_is_a_map() {
    let study = Study::with_head(
        "params: { deep: { lr: 0.1, n: 2 } }",
        "t:\n  kind: command\n  matrix: { d: [\"${deep}\"] }\n  with: { shell: ':', outputs: [out] }",
    );
    let told = study.dissim(&["run", "--dry-run", "--set", "deep.lr=0.5"]).ended(0);
    assert!(told.stdout.contains("t[d={\"lr\":0.5,\"n\":2}]"), "{}", told.stdout);
    let told = errors(&study, &["run", "--set", "deep.rl=0.5"]);
    assert!(told.contains("did you mean `lr`?"), "{told}");
}

#[test]
fn an_unused_parameter_is_a_warning() {
    let study = profiles("params: { epochs: 10, epohcs: 1 }");
    let told = study.dissim(&["run", "--json"]).ended(0);
    let warning = "warning: parameter `epohcs` has no effect: nothing refers to `${epohcs}`\n";
    assert_eq!(told.stderr.matches(warning).count(), 1, "{}", told.stderr);
    for line in told.stdout.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn unknown_placeholders_are_refused() {
    let study = Study::new(
        "u: { kind: command, with: { shell: ':', outputs: [out] } }\n\
         t:\n  kind: command\n  needs: { data: u }\n  matrix: { lr: [1] }\n  with:\n    run:\n      - echo\n      \
         - \"{matrix.rl}\"\n      - \"{input.dta}/{input.data}/{output}/{matrix.lr}\"\n    outputs: [out]",
    );
    insta::assert_snapshot!(errors(&study, &["run"]), @r#"
    error: stage `t` has no axis of its own `rl`
      --> pipeline.yaml:13:11
    13 |         - "{matrix.rl}"
       |           ^^^^^^^^^^^^^
      help: did you mean `lr`?

    error: stage `t` has no input `dta`
      --> pipeline.yaml:14:11
    14 |         - "{input.dta}/{input.data}/{output}/{matrix.lr}"
       |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: did you mean `data`?

    2 errors in pipeline.yaml; nothing was run
    "#);
}

#[test]
fn a_mistake_is_reported_once() {
    let many = Study::with_head(
        "params: { seeds: 3 }",
        "t:\n  kind: command\n  matrix: { s: \"range(${seeds})\", k: \"range(5, ${seeds})\" }\n  \
         with: { shell: ':', outputs: [out] }\n\
         u:\n  kind: command\n  needs: { t: t }\n  matrix: { s: \"range(${seeds})\" }\n  \
         with: { shell: ':', outputs: [out] }",
    );
    insta::assert_snapshot!(errors(&many, &["run", "--set", "seeds=abc"]), @r"
    error: a range needs a whole number, and `seeds` is `abc`
      --> --set seeds=abc
      help: `${seeds}` is used in `range(${seeds})`

    1 error in pipeline.yaml; nothing was run
    ");
    let upstream = Study::new(
        "a: { kind: command, with: { shel: ':', outputs: [out] } }\n\
         b: { kind: command, needs: { x: a }, with: { shell: ':', outputs: [out] } }\n\
         c: { kind: command, needs: { x: \"b[*]\" }, matrix: { y: [1] }, with: { shell: ':', outputs: [out] } }",
    );
    assert_eq!(count(&errors(&upstream, &["run"])), 1);
    let shared = Study::with_head(
        "params: { lines: text }",
        "a: { kind: command, matrix: { i: \"range(40)\" }, with: { run: \"${lines}\", outputs: [out] } }\n\
         b: { kind: command, with: { run: \"${lines}\", outputs: [out] } }",
    );
    let told = errors(&shared, &["run"]);
    assert_eq!(count(&told), 1, "{told}");
    let unmatched = Study::new(
        "a: { kind: command, matrix: { n: [4, 16] }, with: { shell: ':', outputs: [out] } }\n\
         b:\n  kind: command\n  needs: { x: a }\n  matrix: { n: [4, 8, 9], i: \"range(20)\" }\n  \
         with: { shell: ':', outputs: [out] }",
    );
    insta::assert_snapshot!(errors(&unmatched, &["run"]), @r#"
    error: stage `b` needs tasks of stage `a` with n=8, and there are none
      --> pipeline.yaml:9:22
    9 |     matrix: { n: [4, 8, 9], i: "range(20)" }
      |                      ^
      help: there, n is 4, 16: add the value to `a`, or take it out here

    1 error in pipeline.yaml; nothing was run
    "#);
}

#[test]
fn odd_values_are_targets_and_needs() {
    let values = ["[64,64]", "a,b", "a=b", "[", "]", "*", "a*", "with space", "ab"];
    let list: Vec<_> = values.iter().map(|value| format!("'{value}'")).collect();
    for value in values {
        let study = Study::new(&format!(
            "t:\n  kind: command\n  matrix: {{ p: [{}], q: [1, 2] }}\n  \
             with: {{ shell: 'printf %s \"$DISSIM_MATRIX_P\" > out', outputs: [out] }}\n\
             one: {{ kind: command, needs: {{ x: 't[p={value},q=1]' }}, with: {{ shell: ':', outputs: [out] }} }}\n\
             two: {{ kind: command, needs: {{ x: 't[p={value}]' }}, with: {{ shell: ':', outputs: [out] }} }}",
            list.join(", ")
        ));
        let told = study.dissim(&["run", "--dry-run", &format!("t[p={value},q=2]")]).ended(0);
        assert!(told.stdout.contains("1 would run"), "{value}: {}", told.stdout);
        let told = study.dissim(&["run", "--dry-run", &format!("t[p={value}]")]).ended(0);
        assert!(told.stdout.contains("2 would run"), "{value}: {}", told.stdout);
        let told = study.dissim(&["run", "--dry-run", "one"]).ended(0);
        assert!(told.stdout.contains("1 would run, 1 may run"), "{value}: {}", told.stdout);
        let told = study.dissim(&["run", "--dry-run", "two"]).ended(0);
        assert!(told.stdout.contains("2 would run, 1 may run"), "{value}: {}", told.stdout);
    }
}

#[test]
fn a_list_is_a_value_that_needs_can_name() {
    let study = Study::new(
        "t:\n  kind: command\n  matrix: { layers: [[64, 64], [128]], lr: [1e-3, 0.1] }\n  with: { shell: ':', outputs: [out] }\n\
         u: { kind: command, needs: { x: \"t[layers=[64,64]]\" }, with: { shell: ':', outputs: [out] } }\n\
         v: { kind: command, needs: { x: \"t[lr=0.001]\" }, with: { shell: ':', outputs: [out] } }\n\
         w: { kind: command, needs: { x: \"t[layers=[128],l=1]\" }, with: { shell: ':', outputs: [out] } }",
    );
    let told = errors(&study, &["run"]);
    assert!(told.contains("stage `t` has no axis `l`") && count(&told) == 1, "{told}");
    study.edit("l=1", "lr=0.1");
    for target in ["t[layers=[64,64]]", "t[lr=0.001]", "t[lr=1e-3]", "t[layers=[1*]]"] {
        let told = study.dissim(&["run", "--dry-run", target]).ended(0);
        assert!(told.stdout.contains("2 would run"), "{target}: {}", told.stdout);
    }
    for (target, tasks) in [("u", 2), ("v", 2), ("w", 1)] {
        let told = study.dissim(&["run", "--dry-run", target]).ended(0);
        assert!(told.stdout.contains(&format!("{tasks} would run, 1 may run")), "{}", told.stdout);
    }
}

#[test]
fn numbers_are_arguments_and_variables() {
    let study = Study::with_head(
        "params: { epochs: 10, lr: 1e-3 }",
        "t:\n  kind: command\n  with:\n    run: [sh, -c, 'echo \"$1 $2 $3 $N $B\" > out', sh, \"${epochs}\", \"${lr}\", 3.10]\n    \
         env: { N: 2.50, B: true }\n    outputs: [out]",
    );
    study.dissim(&["run"]).ended(0);
    assert_eq!(study.output("t", "out"), "10 1e-3 3.10 2.50 true\n");
    study.edit("sh, \"${epochs}\"", "[sh], null, \"${epochs}\"");
    insta::assert_snapshot!(errors(&study, &["run"]), @r#"
    error: `run[3]`: must be text, and is a list
      --> pipeline.yaml:8:52
    8 |       run: [sh, -c, 'echo "$1 $2 $3 $N $B" > out', [sh], null, "${epochs}", "${lr}", 3.10]
      |                                                    ^

    error: `run[4]`: must be text, and is nothing
      --> pipeline.yaml:8:58
    8 |       run: [sh, -c, 'echo "$1 $2 $3 $N $B" > out', [sh], null, "${epochs}", "${lr}", 3.10]
      |                                                          ^^^^

    2 errors in pipeline.yaml; nothing was run
    "#);
}

#[test]
fn keys_for_anchors_are_allowed() {
    let study = Study::with_head(
        "x-base: &base { kind: command, with: { shell: 'echo 1 > out', outputs: [out] } }",
        "t: *base\nu: { <<: *base, matrix: { i: [1, 2] } }",
    );
    let told = study.dissim(&["run"]).ended(0);
    assert!(told.stdout.starts_with("3 tasks: 0 cached, 3 ran"), "{}", told.stdout);
}

#[test]
fn an_argument_that_is_too_long_is_refused() {
    let study = Study::new("t: { kind: command, with: { shell: 'LONG', outputs: [out] } }");
    study.edit("LONG", &format!(": {}", "x".repeat(140_000)));
    let told = errors(&study, &["run"]);
    assert!(
        told.starts_with("error: `shell` has 140002 bytes, and Linux passes at most 131071"),
        "{:.200}",
        told
    );
}

#[test]
fn there_are_no_conditions() {
    let study = Study::new(
        "t: { kind: command, exclude: [1], when: x, with: { shell: ':', outputs: [out] } }",
    );
    insta::assert_snapshot!(errors(&study, &["run"]), @r"
    error: unknown key `exclude` in stage `t`
      --> pipeline.yaml:5:23
    5 |   t: { kind: command, exclude: [1], when: x, with: { shell: ':', outputs: [out] } }
      |                       ^^^^^^^
      help: there are no conditions: list the combinations that you want as grids under `sweeps`

    error: unknown key `when` in stage `t`
      --> pipeline.yaml:5:37
    5 |   t: { kind: command, exclude: [1], when: x, with: { shell: ':', outputs: [out] } }
      |                                     ^^^^
      help: there are no conditions: list the combinations that you want as grids under `sweeps`

    2 errors in pipeline.yaml; nothing was run
    ");
}
