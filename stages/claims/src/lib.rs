//! Claims as code: what a study asserts, and what its runs say of it.
//!
//! A [`Claim`] stands under `claims:` in pipeline.yaml. [`judge`] takes all of them together,
//! because Holm's correction needs the whole family, and a [`RunTable`]; it returns one
//! [`Judgement`] per claim, with the effect, its interval, p before and after the correction, and n.
//! Runs are averaged only if they agree in every factor but the replicate.
//! [`check`] finds what is wrong with a claim before anything runs.

mod best;
mod check;
mod claim;
mod judge;
mod runs;

pub use check::{Columns, check};
pub use claim::{Best, Claim, Compare, Expect, Trend};
pub use judge::{Judgement, LEVEL, Mcnemar, Verdict, judge};
pub use runs::{Row, RunTable, Selection, key as sort_key, matches, matches_naming, words};
