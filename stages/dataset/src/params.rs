//! The parameters of a data set: what each means, its default and why.

use dissim_api::formats::Compose;
use dissim_api::{ParamError, Params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Training digits of MNIST and of FashionMNIST, which `n_train` and `n_val` share.
const TRAINING_DIGITS: u32 = 60_000;
/// Digits held out where `n_val` is not given and there is room.
const HELD_OUT: u32 = 2_000;
/// Labels, each with backgrounds of its own.
pub(crate) const LABELS: usize = 10;
/// Largest `n_bg`: 40,000 of CIFAR-10's 50,000 training images.
const MOST_BACKGROUNDS: u32 = 4_000;

/// `with:` of a `dataset` stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetParams {
    /// Backgrounds that each label owns in training: the study's N, 1 to 4000. Those of a smaller
    /// N are among those of a larger one.
    #[schemars(range(min = 1, max = 4000))]
    pub n_bg: u32,
    /// Seed of the draw of digits, backgrounds and their pairing. Nothing in the draw of digits
    /// depends on `n_bg`, so runs with one seed are paired.
    #[serde(default)]
    pub seed: u64,
    /// Training digits.
    #[serde(default = "all_training_digits")]
    #[schemars(range(min = 1, max = 60_000))]
    pub n_train: u32,
    /// Training digits held out for `id_val` and `bg_val`; by default 2,000, or what `n_train`
    /// leaves of 60,000 if that is less: 2,000 measure an accuracy of 80 % to 0.9 points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_val: Option<u32>,
    /// Test digits, the same in `id_test`, `ood_test`, `conflict` and `black`; all by default.
    #[serde(default = "all_test_digits")]
    #[schemars(range(min = 1, max = 10_000))]
    pub n_test: u32,
    /// How a digit and its background become one image.
    #[serde(default)]
    pub compose: Compose,
    /// Where the 28x28 digit lies on the 32x32 background.
    #[serde(default)]
    pub placement: Placement,
    /// Red, green and blue of a full-intensity digit; white by default.
    #[serde(default = "white")]
    pub digit_colour: [u8; 3],
    /// Backgrounds never seen in training that `ood_test` uses evenly. 1,000 by default: ten
    /// digits each, and drawing backgrounds then adds about 1 point of standard error at most.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 10_000))]
    pub n_ood: u32,
    /// Where those come from. `test` by default: the background set's own test half.
    #[serde(default)]
    pub ood_source: OodSource,
    /// Backgrounds of `bg_val`, a third pool from the training half; 500 by default, four digits
    /// each where 2,000 are held out.
    #[serde(default = "five_hundred")]
    #[schemars(range(min = 1, max = 10_000))]
    pub n_bg_val: u32,
    /// Backgrounds for `method: oracle` alone, a fourth pool from the training half. None by default:
    /// it then trains on those of `bg_val`, and selection by `bg_val` is spoilt for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 40_000))]
    pub n_fresh: u32,
    /// Who owns the training backgrounds.
    #[serde(default)]
    pub background_policy: BackgroundPolicy,
    /// Whether training draws anew, each epoch, which of its backgrounds a digit lies on. It is off by
    /// default: a digit keeps its background, as in a data set collected once.
    #[serde(default)]
    pub resample_each_epoch: bool,
}

/// Where the 28x28 digit lies on the 32x32 background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// In the middle: two pixels on each side. The study's choice.
    #[default]
    Center,
    /// At any of the 25 places that keep it whole, drawn once for a digit.
    Random,
}

/// The half of the background set that `ood_test` draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OodSource {
    /// Its test half: no photograph that training could have seen.
    #[default]
    Test,
    /// Its training half, apart from the training and validation pools.
    Train,
}

/// Who owns the training backgrounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackgroundPolicy {
    /// Each label owns N that no other label has: the background gives the label away.
    #[default]
    PerLabel,
    /// All labels use the same 10 N evenly: the background says nothing. A control; `conflict`
    /// and `background_only` are empty, since no background belongs to a label.
    Shared,
}

fn all_training_digits() -> u32 {
    TRAINING_DIGITS
}

fn all_test_digits() -> u32 {
    10_000
}

fn thousand() -> u32 {
    1_000
}

fn five_hundred() -> u32 {
    500
}

/// A pool without backgrounds is left out, so that the data set is the one without such a pool.
fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn white() -> [u8; 3] {
    [255; 3]
}

impl DatasetParams {
    /// Held-out digits; `n_val` is always there after resolving.
    #[must_use]
    pub fn held_out(&self) -> u32 {
        self.n_val.unwrap_or(TRAINING_DIGITS.saturating_sub(self.n_train).min(HELD_OUT))
    }
}

/// Completes and checks what the user wrote.
pub(crate) fn resolve(given: &Params) -> Result<Params, Vec<ParamError>> {
    let (mut params, _) = dissim_api::resolve::<DatasetParams>(given)?;
    let errors = range_errors(&params);
    if !errors.is_empty() {
        return Err(errors);
    }
    params.n_val = Some(params.held_out());
    match serde_json::to_value(&params) {
        Ok(serde_json::Value::Object(map)) => Ok(map),
        other => unreachable!("a parameter struct serialises as an object, not {other:?}"),
    }
}

fn range_errors(params: &DatasetParams) -> Vec<ParamError> {
    let ranges = [
        ("n_bg", params.n_bg, MOST_BACKGROUNDS),
        ("n_train", params.n_train, TRAINING_DIGITS),
        ("n_test", params.n_test, 10_000),
        ("n_ood", params.n_ood, 10_000),
        ("n_bg_val", params.n_bg_val, 10_000),
    ];
    let outside = ranges.iter().filter(|(_, value, most)| !(1..=*most).contains(value));
    let mut errors: Vec<_> = outside
        .map(|(name, value, most)| {
            ParamError::new(*name, format!("`{name}` is {value}, and must be 1 to {most}"))
        })
        .collect();
    let wanted = u64::from(params.n_train) + u64::from(params.held_out());
    if params.n_train <= TRAINING_DIGITS && wanted > u64::from(TRAINING_DIGITS) {
        let message = format!(
            "`n_train` + `n_val` is {wanted}, and the set has {TRAINING_DIGITS} training digits"
        );
        errors.push(ParamError::new("n_val", message));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn given(value: serde_json::Value) -> Params {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn defaults_are_filled_in() {
        let params = resolve(&given(json!({"n_bg": 8, "n_train": 59_000}))).unwrap();
        insta::assert_snapshot!(serde_json::Value::Object(params), @r#"{"background_policy":"per_label","compose":"alpha","digit_colour":[255,255,255],"n_bg":8,"n_bg_val":500,"n_ood":1000,"n_test":10000,"n_train":59000,"n_val":1000,"ood_source":"test","placement":"center","resample_each_epoch":false,"seed":0}"#);
    }

    #[test]
    fn n_val_follows_n_train_and_is_one_key_with_the_explicit_form() {
        let n_val = |value| resolve(&given(value)).unwrap()["n_val"].clone();
        assert_eq!(n_val(json!({"n_bg": 1})), 0);
        assert_eq!(n_val(json!({"n_bg": 1, "n_train": 20_000})), 2_000);
        let implicit = resolve(&given(json!({"n_bg": 1, "n_train": 20_000})));
        assert_eq!(implicit, resolve(&given(json!({"n_bg": 1, "n_train": 20_000, "n_val": 2000}))));
    }

    #[test]
    fn every_value_out_of_range_is_named() {
        let bad = json!({"n_bg": 0, "n_train": 50_000, "n_val": 10_001, "n_test": 10_001});
        let errors = resolve(&given(bad)).unwrap_err();
        let text: Vec<_> = errors.iter().map(|e| e.message.as_str()).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        `n_bg` is 0, and must be 1 to 4000
        `n_test` is 10001, and must be 1 to 10000
        `n_train` + `n_val` is 60001, and the set has 60000 training digits
        ");
    }
}
