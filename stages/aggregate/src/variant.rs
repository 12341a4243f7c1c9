//! What tells a run from the plain runs of its study: facts filled in where a run has the default,
//! and the column `variant`, which names those in which it departs.
//!
//! A study's plain runs have the default of every fact below. Where another value occurs beside the
//! default, the runs that have it are another variant: `sampler = groups`, say. A fact that is the same
//! in all runs, such as the network of a study of AlexNet, makes no variant.

use polars::prelude::*;

/// The column.
pub(crate) const VARIANT: &str = "variant";

/// Facts that make variants, and their defaults; none where a fact is absent by default.
const DEFAULTS: [(&str, Option<&str>); 17] = [
    ("model", Some("lenet5")),
    ("activation", Some("relu")),
    ("pooling", Some("max")),
    ("pairs", Some("label_and_background")),
    ("tau_space", Some("embedding")),
    ("embed", Some("post")),
    ("offset", None),
    ("lambda_target", None),
    ("lambda_schedule", Some("constant")),
    ("sampler", Some("shuffle")),
    ("samples_per_group", Some("4")),
    ("optimiser", Some("adam")),
    ("lr_schedule", Some("constant")),
    ("compose", Some("alpha")),
    ("placement", Some("center")),
    ("background_policy", Some("per_label")),
    ("resample_each_epoch", Some("false")),
];

/// Fills in defaults that `train` leaves out, and adds the column `variant`.
pub(crate) fn name(mut runs: DataFrame) -> PolarsResult<DataFrame> {
    let height = runs.height();
    let method = texts(&runs, "method");
    let ours = |i: usize| method[i].as_deref() == Some("dissimilarity");
    fill(&mut runs, "pairs", ours)?;
    let pairs = texts(&runs, "pairs");
    fill(&mut runs, "tau_space", |i| pairs[i].as_deref() == Some("label_above_threshold"))?;
    let weighted = texts(&runs, "lambda");
    fill(&mut runs, "lambda_schedule", |i| weighted[i].is_some())?;
    fill(&mut runs, "sampler", |_| true)?;
    let mut departures: Vec<Vec<String>> = vec![Vec::new(); height];
    for (fact, default) in DEFAULTS {
        let values = texts(&runs, fact);
        let plain = |value: &Option<String>| value.is_none() || value.as_deref() == default;
        if values.iter().any(plain) {
            for (value, departures) in values.iter().zip(&mut departures) {
                if let Some(text) = value.as_deref().filter(|_| !plain(value)) {
                    departures.push(format!("{fact} = {text}"));
                }
            }
        }
    }
    let variants = departures
        .into_iter()
        .map(|d| if d.is_empty() { "plain".to_owned() } else { d.join(", ") })
        .collect::<Vec<_>>();
    runs.with_column(Column::new(VARIANT.into(), variants))?;
    Ok(runs)
}

/// Whether a variant departs in this fact.
pub(crate) fn names(runs: &DataFrame, fact: &str) -> bool {
    let start = format!("{fact} = ");
    let variants = texts(runs, VARIANT).into_iter().flatten();
    variants.into_iter().any(|v| v.split(", ").any(|part| part.starts_with(&start)))
}

/// The default of a fact, where it is null and `applies` says that the run has the fact at all.
fn fill(runs: &mut DataFrame, fact: &str, applies: impl Fn(usize) -> bool) -> PolarsResult<()> {
    let default = DEFAULTS.iter().find(|(name, _)| *name == fact).and_then(|(_, d)| *d);
    let (Some(default), true) = (default, runs.column(fact).is_ok()) else { return Ok(()) };
    let filled = texts(runs, fact)
        .into_iter()
        .enumerate()
        .map(|(i, value)| value.or_else(|| applies(i).then(|| default.to_owned())));
    let column = Column::new(fact.into(), filled.collect::<Vec<_>>());
    runs.with_column(column).map(|_| ())
}

/// A column as text; `None` in every row if there is no such column.
pub(crate) fn texts(runs: &DataFrame, fact: &str) -> Vec<Option<String>> {
    let text = |value: AnyValue<'_>| match value {
        AnyValue::Null => None,
        AnyValue::String(text) => Some(text.to_owned()),
        AnyValue::StringOwned(text) => Some(text.to_string()),
        other => Some(other.to_string()),
    };
    let column = runs.column(fact).ok();
    (0..runs.height()).map(|i| column.and_then(|c| c.get(i).ok()).and_then(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_filled_in_and_departures_named() {
        let runs = df!(
            "method" => ["erm", "erm", "dissimilarity", "dissimilarity", "dissimilarity"],
            "lambda" => [None, None, Some(1.25), Some(1.25), None],
            "lambda_target" => [None, None, None, None, Some(0.5)],
            "model" => ["alexnet"; 5],
            "embed" => [None, None, Some("post"), Some("pre"), Some("post")],
            "pairs" => [None, None, None, Some("label"), None],
            "sampler" => [None, Some("groups"), None, Some("groups"), None],
            "lambda_schedule" => [None, None, None, Some("decay"), None],
        );
        let named = name(runs.unwrap()).unwrap();
        let column = |fact: &str| {
            texts(&named, fact).into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>()
        };
        assert_eq!(column("sampler"), ["shuffle", "groups", "shuffle", "groups", "shuffle"]);
        let pairs = ["", "", "label_and_background", "label", "label_and_background"];
        assert_eq!(column("pairs"), pairs);
        assert_eq!(column("lambda_schedule"), ["", "", "constant", "decay", ""]);
        insta::assert_snapshot!(column(VARIANT).join("\n"), @r"
        plain
        sampler = groups
        plain
        pairs = label, embed = pre, lambda_schedule = decay, sampler = groups
        lambda_target = 0.5
        ");
        assert!(names(&named, "embed") && !names(&named, "model"));
        let groups = crate::summary::group_columns(&named, &[]).unwrap();
        insta::assert_snapshot!(
            groups.join(" "),
            @"method lambda lambda_target embed pairs sampler lambda_schedule"
        );
    }

    #[test]
    fn a_study_without_such_facts_has_one_variant() {
        let runs = df!("word" => ["one", "two"]).unwrap();
        let named = name(runs).unwrap();
        assert_eq!(texts(&named, VARIANT), [Some("plain".to_owned()), Some("plain".to_owned())]);
        assert_eq!(named.width(), 2);
    }
}
