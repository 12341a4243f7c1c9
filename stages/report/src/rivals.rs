//! Methods at one N, compared: OOD accuracy, the gain over cross-entropy run by run, and how much of
//! the gap from cross-entropy to the oracle each closes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use dissim_api::{IoContext, StageError};
use dissim_statistics::{bootstrap, mean, paired, share, student};
use serde::Serialize;

use crate::runs::{Run, disagreement, distinct, left_out, main_lambda, mixture};
use crate::text;

const CONFIDENCE: f64 = 0.95;

/// The methods at the N where most were run, the best first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Rivals {
    pub n_bg: i64,
    pub rows: Vec<Rival>,
    /// The factors in which runs of one method differ, or runs that are compared: no row or no gain is
    /// made from them.
    pub left_out: BTreeSet<String>,
}

/// A method, over its runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Rival {
    pub method: String,
    pub lambda: Option<f64>,
    /// What it is told beside images and labels.
    pub told: Option<String>,
    pub ood: Vec<f64>,
    pub mean: f64,
    /// Student's t over runs.
    pub interval: Option<(f64, f64)>,
    pub id_mean: f64,
    /// Over the runs that are not dead.
    pub alive_mean: Option<f64>,
    pub dead: usize,
    /// Wilson's interval of the share of dead runs.
    pub dead_interval: Option<(f64, f64)>,
    /// Mean paired difference to cross-entropy, and its BCa interval.
    pub gain: Option<(f64, Option<(f64, f64)>)>,
    /// P(A > B) against cross-entropy.
    pub superiority: Option<f64>,
    /// Share of the gap from cross-entropy to the oracle, and its BCa interval.
    pub gap: Option<(f64, Option<(f64, f64)>)>,
}

impl Rival {
    /// Its name as people read it.
    pub fn label(&self) -> String {
        match (self.method.as_str(), self.lambda) {
            ("erm", _) => "cross-entropy (erm)".to_owned(),
            (_, Some(lambda)) => format!("{}, λ = {lambda}", self.method.replace('_', " ")),
            _ => self.method.replace('_', " "),
        }
    }

    /// The share of the gap in words: `62 % (48 to 75)`.
    pub fn gap_text(&self) -> String {
        let Some((share, interval)) = self.gap else { return String::new() };
        if self.method == "erm" || self.method == "oracle" {
            return format!("{:.0} %", share * 100.0);
        }
        let interval = interval
            .map(|(low, high)| format!(" ({:.0} to {:.0})", low * 100.0, high * 100.0))
            .unwrap_or_default();
        format!("{:.0} %{interval}", share * 100.0)
    }
}

impl Rivals {
    /// Of these runs; none where fewer than three methods share an N.
    pub fn of(runs: &[Run]) -> Option<Self> {
        let lambda = main_lambda(runs);
        let shown = |r: &&Run| r.method != "dissimilarity" || r.lambda == lambda;
        let shown: Vec<&Run> = runs.iter().filter(shown).collect();
        let methods = |n: &i64| {
            distinct(shown.iter().filter(|r| r.n_bg == *n).map(|r| r.method.as_str())).len()
        };
        let n_bg = distinct(shown.iter().map(|r| r.n_bg)).into_iter().max_by_key(methods)?;
        if methods(&n_bg) < 3 {
            return None;
        }
        let mut groups: BTreeMap<(String, String), Vec<&Run>> = BTreeMap::new();
        for run in shown.into_iter().filter(|r| r.n_bg == n_bg && r.ood_acc.is_some()) {
            let key = (run.method.clone(), format!("{:?}", run.lambda));
            groups.entry(key).or_default().push(run);
        }
        let mut left_out = BTreeSet::new();
        groups.retain(|_, runs| {
            let differ = mixture(runs.iter().copied());
            left_out.extend(differ.iter().cloned());
            differ.is_empty()
        });
        let side =
            |method: &str| groups.iter().find(|((m, _), _)| m == method).map(|(_, runs)| runs);
        let mut rows: Vec<Rival> = Vec::new();
        for runs in groups.values() {
            // A method is compared with runs that differ from its own in nothing but the method.
            let mut comparable = |other: &&Vec<&Run>| {
                let differ = disagreement(runs, other, &["method", "lambda"]);
                left_out.extend(differ.iter().cloned());
                differ.is_empty()
            };
            let erm = side("erm").filter(&mut comparable).map(|runs| by_seed(runs));
            let oracle = side("oracle").filter(&mut comparable).map(|runs| by_seed(runs));
            rows.push(rival(runs, erm.as_ref(), oracle.as_ref()));
        }
        rows.sort_by(|a, b| b.mean.total_cmp(&a.mean));
        (rows.len() > 1).then_some(Self { n_bg, rows, left_out })
    }

    /// The caption of the figure.
    pub fn caption(&self) -> String {
        format!(
            "OOD accuracy of every method at N = {}, the best first: means over all runs, dead ones too, with 95 % intervals (Student's t); each faint dot is a run. Gap recovered: the share of the distance from cross-entropy to the oracle that a method closes, with its BCa interval over seeds.{}",
            self.n_bg,
            left_out(&self.left_out)
        )
    }

    /// Writes `rivals.csv` and `rivals.md` into `folder`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), StageError> {
        let path = folder.join("rivals.md");
        fs::write(&path, self.markdown()).or_fail("cannot write", &path)?;
        let path = folder.join("rivals.csv");
        fs::write(&path, self.csv()).or_fail("cannot write", &path)
    }

    /// Header and cells as text, for people.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let header = vec![
            "method",
            "told",
            "n",
            "OOD %",
            "of those alive",
            "ID %",
            "dead",
            "gain, points",
            "P(A > erm)",
            "gap recovered",
        ];
        let points = |v: f64| format!("{:.1}", v * 100.0);
        let row = |r: &Rival| {
            let half = r.interval.map(|(l, h)| format!(" ± {}", points((h - l) / 2.0)));
            let gain = r.gain.filter(|_| r.method != "erm").map(|(gain, interval)| {
                let ends = interval
                    .map(|(l, h)| format!(" ({:+.1} to {:+.1})", l * 100.0, h * 100.0))
                    .unwrap_or_default();
                format!("{:+.1}{ends}", gain * 100.0)
            });
            let superiority = r.superiority.filter(|_| r.method != "erm");
            let dash = || "-".to_owned();
            vec![
                r.label(),
                r.told.as_deref().unwrap_or("-").replace('_', " "),
                r.ood.len().to_string(),
                points(r.mean) + &half.unwrap_or_default(),
                r.alive_mean.map_or_else(dash, points),
                points(r.id_mean),
                share::in_words(r.dead, r.ood.len(), CONFIDENCE),
                gain.unwrap_or_else(dash),
                superiority.map_or_else(dash, |p| format!("{p:.2}")),
                if r.gap.is_some() { r.gap_text() } else { dash() },
            ]
        };
        (header, self.rows.iter().map(row).collect())
    }

    /// What the numbers are.
    pub fn note(&self) -> String {
        let note = "All runs first, then those that are not dead. ±: half of the 95 % interval (Student's t). Dead: a count of runs, with Wilson's 95 % interval. Gain over cross-entropy of runs that share a seed, with its BCa interval, and P(A > erm), the share of seeds it wins. Gap recovered: (method - erm) / (oracle - erm).";
        note.to_owned() + &left_out(&self.left_out)
    }

    fn markdown(&self) -> String {
        let (header, rows) = self.table();
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = line(header.iter().map(|h| text::markdown(h)).collect());
        out += &format!("|:--|:--|{}\n", "--:|".repeat(header.len() - 2));
        for row in rows {
            out += &line(row.iter().map(|cell| text::markdown(cell)).collect());
        }
        out + &format!("\n{}\n", text::markdown(&self.note()))
    }

    fn csv(&self) -> String {
        let mut out = "n_bg,method,lambda,told,n,ood_acc,ood_low,ood_high,ood_alive,id_acc,dead,dead_low,dead_high,gain,gain_low,gain_high,superiority,gap,gap_low,gap_high\n".to_owned();
        let number = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
        let ends = |i: Option<(f64, f64)>| [i.map(|i| i.0), i.map(|i| i.1)].map(number).join(",");
        for r in &self.rows {
            let quoted = |t: &str| format!("\"{}\"", text::csv(t).replace('"', "\"\""));
            let cells = [
                self.n_bg.to_string(),
                quoted(&r.method),
                number(r.lambda),
                quoted(r.told.as_deref().unwrap_or_default()),
                r.ood.len().to_string(),
                r.mean.to_string(),
                ends(r.interval),
                number(r.alive_mean),
                r.id_mean.to_string(),
                r.dead.to_string(),
                ends(r.dead_interval),
                number(r.gain.map(|g| g.0)),
                ends(r.gain.and_then(|g| g.1)),
                number(r.superiority),
                number(r.gap.map(|g| g.0)),
                ends(r.gap.and_then(|g| g.1)),
            ];
            out += &(cells.join(",") + "\n");
        }
        out
    }
}

type BySeed = BTreeMap<i64, f64>;

fn by_seed(runs: &[&Run]) -> BySeed {
    runs.iter().filter_map(|r| Some((r.seed, r.ood_acc?))).collect()
}

fn rival(runs: &[&Run], erm: Option<&BySeed>, oracle: Option<&BySeed>) -> Rival {
    let ood: Vec<f64> = runs.iter().filter_map(|r| r.ood_acc).collect();
    let id: Vec<f64> = runs.iter().filter_map(|r| r.id_acc).collect();
    let alive: Vec<f64> = runs.iter().filter(|r| !r.dead).filter_map(|r| r.ood_acc).collect();
    let own = by_seed(runs);
    let pairs = |other: &BySeed| -> Vec<f64> {
        own.iter().filter_map(|(seed, a)| Some(a - other.get(seed)?)).collect()
    };
    let differences = erm.map(pairs).filter(|d| !d.is_empty());
    let triples = |(erm, oracle): (&BySeed, &BySeed)| -> Vec<[f64; 3]> {
        let triple = |(s, v): (&i64, &f64)| Some([*erm.get(s)?, *v, *oracle.get(s)?]);
        own.iter().filter_map(triple).collect()
    };
    let ends = |i: dissim_statistics::Interval| (i.low, i.high);
    let gap = erm.zip(oracle).and_then(|both| paired::gap_recovered(&triples(both), CONFIDENCE));
    let dead = runs.iter().filter(|r| r.dead).count();
    Rival {
        method: runs[0].method.clone(),
        lambda: runs[0].lambda,
        told: runs[0].told.clone(),
        mean: mean(&ood),
        interval: student::summary(&ood, CONFIDENCE).and_then(|(_, _, i)| i).map(ends),
        id_mean: mean(&id),
        alive_mean: (!alive.is_empty()).then(|| mean(&alive)),
        dead,
        dead_interval: share::wilson(dead, runs.len(), CONFIDENCE).map(ends),
        gain: differences.as_ref().map(|d| (mean(d), bootstrap::bca(d, CONFIDENCE).map(ends))),
        superiority: differences.as_ref().map(|d| paired::superiority(d)),
        gap: gap.map(|(share, interval)| (share, interval.map(ends))),
        ood,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(method: &str, seed: i64, ood: f64) -> Run {
        Run {
            method: method.into(),
            n_bg: 8,
            seed,
            id_acc: Some(0.9),
            ood_acc: Some(ood),
            dead: ood < 0.2,
            told: Some("nothing".into()),
            ..Run::default()
        }
    }

    /// Whatever weights the other methods have.
    #[test]
    fn dissimilarity_loss_is_ranked_among_its_rivals() {
        let weighted =
            |method: &str, ood, lambda| Run { lambda: Some(lambda), ..run(method, 0, ood) };
        let runs = [
            run("erm", 0, 0.4),
            weighted("vicreg_decorrelation", 0.35, 0.04),
            weighted("dissimilarity", 0.6, 1.25),
            weighted("irm", 0.5, 100.0),
        ];
        let found = Rivals::of(&runs).unwrap();
        let order: Vec<_> = found.rows.iter().map(|r| r.method.as_str()).collect();
        assert_eq!(order, ["dissimilarity", "irm", "erm", "vicreg_decorrelation"]);
    }

    #[test]
    fn by_hand() {
        let mut runs = Vec::new();
        for (seed, erm, ours, oracle) in
            [(0, 0.4, 0.6, 0.8), (1, 0.3, 0.65, 0.9), (2, 0.5, 0.1, 0.85)]
        {
            runs.extend([
                run("erm", seed, erm),
                run("lisa", seed, ours),
                run("oracle", seed, oracle),
            ]);
        }
        let found = Rivals::of(&runs).unwrap();
        let order: Vec<_> = found.rows.iter().map(|r| r.method.as_str()).collect();
        assert_eq!(order, ["oracle", "lisa", "erm"]);
        let lisa = &found.rows[1];
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        // Means 0.4, 0.45, 0.85: a ninth of the way. One of the three is dead.
        assert!(close(lisa.gap.unwrap().0, 0.05 / 0.45), "{:?}", lisa.gap);
        assert!(close(lisa.gain.unwrap().0, 0.05) && close(lisa.mean, 0.45));
        assert!(close(lisa.alive_mean.unwrap(), 0.625));
        assert_eq!((lisa.dead, lisa.superiority), (1, Some(2.0 / 3.0)));
        assert_eq!(found.rows[2].gap.unwrap().0, 0.0);
        // Two methods are a comparison, not a ranking.
        runs.retain(|r| r.method != "oracle");
        assert_eq!(Rivals::of(&runs), None);
    }

    #[test]
    fn names_are_escaped_in_both_files() {
        let runs: Vec<Run> =
            ["a|b", "\"c\",<b>", "=1+1", "erm"].iter().map(|m| run(m, 0, 0.5)).collect();
        let folder = tempfile::tempdir().unwrap();
        Rivals::of(&runs).unwrap().write(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(read("rivals.md").contains("a\\|b") && !read("rivals.md").contains("<b>"));
        assert!(read("rivals.csv").contains("\"\"\"c\"\",<b>\""), "{}", read("rivals.csv"));
        assert!(read("rivals.csv").contains("\"'=1+1\""), "{}", read("rivals.csv"));
    }

    #[test]
    fn method_of_two_learning_rates_is_left_out() {
        let with = |method: &str, seed: i64, lr: f64| Run {
            setting: [("lr".to_owned(), lr.into())].into(),
            ..run(method, seed, 0.5)
        };
        let mut runs: Vec<Run> =
            ["erm", "lisa", "irm", "vrex"].iter().map(|m| with(m, 0, 0.1)).collect();
        runs.push(with("lisa", 1, 0.2));
        runs[3].setting.insert("lr".to_owned(), 0.3.into());
        let found = Rivals::of(&runs).unwrap();
        let methods: Vec<_> = found.rows.iter().map(|r| r.method.as_str()).collect();
        assert!(!methods.contains(&"lisa") && methods.len() == 3, "{methods:?}");
        // vrex stands alone with its rate, so there is no gain over erm.
        let gain = |method: &str| found.rows.iter().find(|r| r.method == method).unwrap().gain;
        assert!(gain("irm").is_some() && gain("vrex").is_none());
        let note = " Left out where runs of several settings met, which differ in lr.";
        assert!(found.note().ends_with(note) && found.caption().ends_with(note));
    }
}
