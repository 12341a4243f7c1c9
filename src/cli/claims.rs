//! `dissim claims`: what the runs say of the study's claims.

use std::fs;

use clap::Args;

use super::{Cli, Failure, Result, Selection, print, print_json};
use crate::plan::{Planner, State};
use crate::registry::{Judgement, Registry, Verdict};

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
    let states = Planner::new(&study, &store).plan();
    let reports = study.stages.iter().filter(|s| s.stage.kind() == "report");
    let mut found: Option<Vec<Judgement>> = None;
    for task in reports.flat_map(|s| s.tasks.clone()) {
        let State::Hit(record) = &states[task] else { continue };
        let tree = store.tree(&record.artifact).unwrap_or_default();
        if let Some(entry) = tree.files.get("claims.json") {
            let bytes = fs::read(store.object(&entry.digest))?;
            found = Some(serde_json::from_slice(&bytes).map_err(std::io::Error::from)?);
        }
    }
    let Some(judgements) = found else {
        let profile = study.profile.as_ref().map(|p| format!(" --profile {p}")).unwrap_or_default();
        return Err(Failure::Input(format!(
            "error: the claims are not judged for the pipeline as it stands\n  help: dissim run{profile}, or dissim report{profile} for the runs that are there\n"
        )));
    };
    if args.json {
        print_json(&judgements)?
    } else {
        print(&page(&judgements))?
    }
    let refuted = judgements.iter().any(|j| j.verdict == Verdict::Refuted);
    if args.strict && refuted { Err(Failure::Task) } else { Ok(()) }
}

/// Every claim in a block of two or three lines, and the count of verdicts.
fn page(judgements: &[Judgement]) -> String {
    let mut text = String::new();
    for judgement in judgements {
        text += &format!("{:<13} {}\n", judgement.verdict.as_str(), judgement.says);
        if judgement.effect.is_some() {
            text += &format!("{:13} {}\n", "", numbers(judgement));
        }
        if let Some(note) = &judgement.note {
            text += &format!("{:13} {note}\n", "");
        }
        text.push('\n');
    }
    let verdicts = [Verdict::Supported, Verdict::Refuted, Verdict::Inconclusive, Verdict::NotRun];
    let counts = verdicts.map(|verdict| {
        let count = judgements.iter().filter(|j| j.verdict == verdict).count();
        format!("{count} {}", verdict.as_str())
    });
    text + &format!("{} claims: {}\n", judgements.len(), counts.join(", "))
}

/// Effect, interval, p before and after the correction, P(A > B), n.
fn numbers(judgement: &Judgement) -> String {
    let share = judgement.is_share();
    let scaled = |v: f64| if share { format!("{:+.1}", v * 100.0) } else { format!("{v:+.3}") };
    let unit = if share { " points" } else { "" };
    let step = judgement.along.as_ref().map(|a| format!(" a step of {a}")).unwrap_or_default();
    let mut parts = vec![format!(
        "{} {}{unit}{step}",
        judgement.metric,
        scaled(judgement.effect.unwrap_or_default()),
    )];
    if let Some([low, high]) = judgement.interval {
        parts[0] += &format!(" [{}, {}]", scaled(low), scaled(high));
    }
    if let (Some(p), Some(corrected)) = (judgement.p, judgement.p_holm) {
        parts.push(format!("p {p:.4}, corrected {corrected:.4}"));
    }
    if let Some(superiority) = judgement.superiority {
        let what = if judgement.along.is_some() { "P(rises)" } else { "P(A > B)" };
        parts.push(format!("{what} {superiority:.2}"));
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
              "note": "not measured in this profile: no runs for a: {\"n_bg\":32}" },
            { "id": "c", "says": "Penalty falls", "metric": "penalty", "expect": "less",
              "along": "lambda", "verdict": "refuted", "n": 10, "effect": 0.5,
              "interval": null, "p": 0.01, "p_holm": 0.02, "superiority": 0.9, "note": null },
        ]))
        .unwrap();
        insta::assert_snapshot!(page(&judgements));
    }
}
