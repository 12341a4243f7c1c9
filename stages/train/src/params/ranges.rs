//! Which values make no training run, and what is said of them.

use dissim_api::ParamError;

use super::{EngineKind, Lambda, Pairs, Sampler, TauLoss, TauSpace, TrainParams};

/// A parameter, its value where it is given, whether a value will do, and which would.
type Range = (&'static str, Option<f64>, fn(f64) -> bool, &'static str);

/// Everything that is out of range, or does not go together.
pub(super) fn errors(params: &TrainParams) -> Vec<ParamError> {
    let outside = |(name, value, holds, range): &Range| {
        let value = value.filter(|v| !holds(*v))?;
        Some(ParamError::new(*name, format!("`{name}` must be {range}, and is {value}")))
    };
    let mut errors: Vec<_> = ranges(params).iter().filter_map(outside).collect();
    errors.extend(lambda(params));
    errors.extend(sampler(params));
    errors.extend(hinge(params));
    errors.extend(engine(params));
    errors
}

fn ranges(params: &TrainParams) -> [Range; 10] {
    let fixed = match params.lambda {
        Some(Lambda::Fixed(weight)) => Some(weight),
        _ => None,
    };
    let from_zero = |v: f64| v.is_finite() && v >= 0.0;
    [
        ("lambda", fixed, from_zero, "0 or more"),
        ("lambda_span", params.lambda_span, |v| v > 0.0 && v <= 1.0, "above 0 and at most 1"),
        ("tau", params.tau, from_zero, "0 or more"),
        ("offset", params.offset, |v| (-1.0..=1.0).contains(&v), "-1 to 1"),
        (
            "environments",
            params.environments.map(f64::from),
            |v| (1.0..=100.0).contains(&v),
            "1 to 100",
        ),
        ("epochs", Some(params.epochs.into()), |v| (1.0..=10_000.0).contains(&v), "1 to 10000"),
        (
            "batch_size",
            Some(params.batch_size.into()),
            |v| (1.0..=4096.0).contains(&v),
            "1 to 4096",
        ),
        ("lr", params.lr, |v| v.is_finite() && v > 0.0, "above 0"),
        ("weight_decay", params.weight_decay, from_zero, "0 or more"),
        ("momentum", params.momentum, |v| (0.0..1.0).contains(&v), "0 or more and below 1"),
    ]
}

/// A target is a cosine, and needs a similarity that the method pushes down.
fn lambda(params: &TrainParams) -> Option<ParamError> {
    let Some(Lambda::Target(target)) = params.lambda else { return None };
    if !(-1.0..=1.0).contains(&target) {
        let message = format!("`target` is a cosine: it must be -1 to 1, and is {target}");
        return Some(ParamError::new("lambda", message));
    }
    if params.method == super::Method::Dissimilarity
        && params.pairs == Some(Pairs::LabelAboveThreshold)
    {
        let message = "`lambda: { target: .. }` holds the similarity of pairs that stay the same; with \
                       `pairs: label_above_threshold` give a number";
        return Some(ParamError::new("lambda", message));
    }
    // Without a penalty it is left out, as a number would be.
    if params.method.weight().is_none() || params.method.steered() {
        return None;
    }
    let message = format!(
        "`lambda: {{ target: .. }}` holds the similarity of `dissimilarity` or `class_repulsion`; \
         `{}` takes a number",
        params.method.as_str()
    );
    Some(ParamError::new("lambda", message))
}

/// K divides the batch, and a group has two images or more.
fn sampler(params: &TrainParams) -> Option<ParamError> {
    if params.sampler != Some(Sampler::Groups) {
        return None;
    }
    let k = params.samples_per_group.unwrap_or(super::SAMPLES_PER_GROUP);
    if k < 2 {
        let message = format!("`samples_per_group` must be 2 or more, and is {k}");
        return Some(ParamError::new("samples_per_group", message));
    }
    let batch = params.batch_size;
    (!batch.is_multiple_of(k)).then(|| {
        let message = format!(
            "`samples_per_group` must divide `batch_size`, and {k} does not divide {batch}"
        );
        ParamError::new("samples_per_group", message)
    })
}

/// A hinge is the threshold's own loss on what it looks at.
fn hinge(params: &TrainParams) -> Option<ParamError> {
    let both = params.tau_loss == Some(TauLoss::Hinge) && params.tau_space == Some(TauSpace::Input);
    both.then(|| {
        let message = "`tau_loss: hinge` is a hinge on the embeddings' similarity; with \
                       `tau_space: input` use `selected_mean`";
        ParamError::new("tau_loss", message)
    })
}

fn engine(params: &TrainParams) -> Option<ParamError> {
    let what = params.architecture().not_fused().filter(|_| params.engine == EngineKind::Fused)?;
    let message = format!(
        "`engine: fused` does not compute {what}; leave `engine` out, or set it to `plain`"
    );
    Some(ParamError::new("engine", message))
}
