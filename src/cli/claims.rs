//! `dissim claims`: what the runs say of the study's claims.

use clap::Args;

use super::{Cli, Failure, Result, Selection, print_json, report};
use crate::plan::{Planner, State};
use crate::registry::{Judgement, Mcnemar, Registry, Verdict};
use crate::say::{self, calm};

#[derive(Debug, Args)]
pub(super) struct ClaimsArgs {
    #[command(flatten)]
    selection: Selection,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Exits with 1 when a claim is refuted.
    #[arg(long)]
    strict: bool,
}

pub(super) fn claims(cli: &Cli, args: &ClaimsArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    if study.claims.is_empty() {
        let what = "error: the pipeline makes no claims\n  help: write them under `claims:`\n";
        return Err(Failure::Input(what.to_owned()));
    }
    // As `dissim report` leaves it: the runs that are there may be a part of the study.
    let chosen = args.selection.behind(&study);
    let partial = report::available(&study, &store, &chosen).ok();
    let study = partial.as_ref().map_or(&study, |p| &p.study);
    let states = Planner::new(study, &store).plan();
    let reports = study.stages.iter().filter(|s| s.stage.kind() == "report");
    let mut found: Option<Vec<Judgement>> = None;
    for task in reports.flat_map(|s| s.tasks.clone()) {
        let State::Hit(record) = &states[task] else { continue };
        let tree = store.tree(&record.artifact).unwrap_or_default();
        if let Some(entry) = tree.files.get("claims.json") {
            let bytes = store.read_out(entry)?;
            found = Some(serde_json::from_slice(&bytes).map_err(std::io::Error::from)?);
        }
    }
    let Some(judgements) = found else {
        return Err(Failure::Input(format!(
            "error: the claims are not judged for the pipeline as it stands\n  help: dissim run{chosen}, or dissim report{chosen} for the runs that are there\n"
        )));
    };
    if args.json {
        print_json(&judgements)?
    } else {
        let ink = if say::stdout_has_colour() { Ink::Colour } else { Ink::Plain };
        say::coloured_out(&page(&judgements, ink))?;
        if let Some(partial) = &partial {
            say::message(&report::missing(partial, &chosen));
        }
    }
    let refuted = judgements.iter().any(|j| j.verdict == Verdict::Refuted);
    if args.strict && refuted { Err(Failure::Task) } else { Ok(()) }
}

/// Whether the terminal shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ink {
    Plain,
    Colour,
}

/// Width of the column of verdicts, with its mark.
const MARGIN: usize = 17;

/// Every claim in a block of two or three lines, and the count of verdicts.
fn page(judgements: &[Judgement], ink: Ink) -> String {
    let mut text = String::new();
    for judgement in judgements {
        text += &format!("{}{}\n", verdict(judgement.verdict, ink), calm(&judgement.says));
        if judgement.effect.is_some() {
            text += &format!("{:MARGIN$}{}\n", "", calm(&effect(judgement)));
            text += &format!("{:MARGIN$}{}\n", "", calm(&evidence(judgement)));
        }
        if let Some(note) = &judgement.note {
            text += &format!("{:MARGIN$}{}\n", "", calm(note));
        }
        text.push('\n');
    }
    let count = |verdict: Verdict| judgements.iter().filter(|j| j.verdict == verdict).count();
    let mut verdicts =
        vec![Verdict::Supported, Verdict::Refuted, Verdict::Inconclusive, Verdict::NotRun];
    verdicts.extend((count(Verdict::NotJudged) > 0).then_some(Verdict::NotJudged));
    let counts: Vec<String> =
        verdicts.into_iter().map(|v| format!("{} {}", count(v), v.as_str())).collect();
    let noun = if judgements.len() == 1 { "claim" } else { "claims" };
    text + &format!("{} {noun}: {}\n", judgements.len(), counts.join(", "))
}

/// The verdict, padded; a mark tells it apart where there is no colour.
fn verdict(verdict: Verdict, ink: Ink) -> String {
    let (mark, code) = match verdict {
        Verdict::Supported => ("+", 32),
        Verdict::Refuted => ("x", 31),
        Verdict::Inconclusive => ("~", 33),
        Verdict::NotRun => (" ", 2),
        Verdict::NotJudged => ("!", 33),
    };
    let padded = format!("{:MARGIN$}", format!("{mark} {}", verdict.as_str()));
    match ink {
        Ink::Plain => padded,
        Ink::Colour => format!("\x1b[{code}m{padded}\x1b[0m"),
    }
}

/// The effect and its interval.
fn effect(judgement: &Judgement) -> String {
    let share = judgement.is_share();
    let scaled = |v: f64| if share { format!("{:+.1}", v * 100.0) } else { format!("{v:+.3}") };
    let unit = if share { " points" } else { "" };
    let step = judgement.along.as_ref().map(|a| format!(" a step of {a}")).unwrap_or_default();
    let effect = scaled(judgement.effect.unwrap_or_default());
    let interval = judgement
        .interval
        .map(|[low, high]| format!(", 95 % interval {} to {}", scaled(low), scaled(high)))
        .unwrap_or_default();
    calm(&format!("{} {effect}{unit}{step}{interval}", judgement.metric)).into()
}

/// p before and after the correction, P(A > B), n; of flags, the pairs that differ.
fn evidence(judgement: &Judgement) -> String {
    let mut parts = Vec::new();
    if let (Some(p), Some(corrected)) = (judgement.p, judgement.p_holm) {
        parts.push(format!("p {p:.4}, corrected {corrected:.4}"));
    }
    if let Some(superiority) = judgement.superiority {
        let what = if judgement.along.is_some() { "P(rises)" } else { "P(A > B)" };
        parts.push(format!("{what} {superiority:.2}"));
    }
    if let Some(m) = judgement.mcnemar {
        let Mcnemar { only_a, only_b, p } = m;
        parts.push(format!("a alone {only_a}, b alone {only_b}, exact McNemar p {p:.4}"));
    }
    parts.push(format!("n {}", judgement.n));
    parts.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn verdicts_as_people_read_them() {
        let judgements: Vec<Judgement> = serde_json::from_value(json!([
            { "id": "a", "says": "It helps at N = 8", "metric": "ood_acc", "expect": "greater",
              "along": null, "verdict": "supported", "n": 10, "effect": 0.28,
              "interval": [0.2, 0.345], "p": 0.002, "p_holm": 0.0234, "superiority": 1.0, "note": null },
            { "id": "b", "says": "It hurts at N = 32", "metric": "ood_acc", "expect": "less",
              "along": null, "verdict": "not_run", "n": 0, "effect": null, "interval": null,
              "p": null, "p_holm": null, "superiority": null,
              "note": "no run has n_bg = 32" },
            { "id": "d", "says": "Fewer die", "metric": "dead", "expect": "less",
              "along": null, "verdict": "inconclusive", "n": 10, "effect": -0.2,
              "interval": [-0.5, 0.0], "p": 0.5, "p_holm": 0.5, "superiority": 0.4,
              "mcnemar": { "only_a": 0, "only_b": 2, "p": 0.5 }, "note": null },
            { "id": "c", "says": "Penalty falls", "metric": "penalty", "expect": "less",
              "along": "lambda", "verdict": "refuted", "n": 10, "effect": 0.5,
              "interval": null, "p": 0.01, "p_holm": 0.02, "superiority": 0.9, "note": null },
            { "id": "e", "says": "It helps", "metric": "ood_acc", "expect": "greater",
              "along": null, "verdict": "not_judged", "n": 0, "effect": null, "interval": null,
              "p": null, "p_holm": null, "superiority": null,
              "note": "the runs with method = \u{1b}[2Jerm differ in `lr`: name one value under `at`" },
        ]))
        .unwrap();
        insta::assert_snapshot!(page(&judgements, Ink::Plain));
    }
}
