//! What a network says of a batch, and what an objective answers: both with one row a sample.

/// Outputs of a batch of `n`, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Outputs<'a> {
    /// `[n, 10]`.
    pub logits: &'a [f32],
    /// What the last layer reads, after its activation, `[n, d]`.
    pub embedding: &'a [f32],
    /// The same units before the activation, `[n, d]`.
    pub pre: &'a [f32],
    /// d.
    pub width: usize,
    /// What the second pooling leaves, `[n, f]`; empty where it was not asked for.
    pub features: &'a [f32],
}

impl<'a> Outputs<'a> {
    /// The logits of sample `i`, `[10]`.
    #[must_use]
    pub fn logits(&self, i: usize) -> &'a [f32] {
        &self.logits[i * crate::CLASSES..(i + 1) * crate::CLASSES]
    }

    /// The embedding of sample `i`, `[d]`.
    #[must_use]
    pub fn embedding(&self, i: usize) -> &'a [f32] {
        &self.embedding[i * self.width..(i + 1) * self.width]
    }

    /// The embedding of sample `i` before its activation, `[d]`.
    #[must_use]
    pub fn pre(&self, i: usize) -> &'a [f32] {
        &self.pre[i * self.width..(i + 1) * self.width]
    }

    /// Number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.logits.len() / crate::CLASSES
    }
}

/// The objective's gradient with respect to a batch's [`Outputs`], row-major; what the objective
/// does not read costs nothing.
#[derive(Debug, Clone, Default)]
pub struct OutputGradient {
    logits: Vec<f32>,
    embedding: Option<Vec<f32>>,
    pre: Option<Vec<f32>>,
    features: Option<Vec<f32>>,
    /// Room that is kept for the next batch which needs it.
    spare: Vec<Vec<f32>>,
    width: usize,
}

impl OutputGradient {
    /// Zeros for a batch of `samples` with embeddings of `width`.
    pub fn reset(&mut self, samples: usize, width: usize) {
        self.logits.clear();
        self.logits.resize(samples * crate::CLASSES, 0.0);
        self.spare.extend(self.embedding.take());
        self.spare.extend(self.pre.take());
        self.spare.extend(self.features.take());
        self.width = width;
    }

    /// With respect to the logits, `[n, 10]`.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The same, to be filled.
    pub fn logits_mut(&mut self) -> &mut [f32] {
        &mut self.logits
    }

    /// With respect to the embedding beside what comes through the logits, `[n, d]`.
    #[must_use]
    pub fn embedding(&self) -> Option<&[f32]> {
        self.embedding.as_deref()
    }

    /// The same, to be filled.
    pub fn embedding_mut(&mut self) -> &mut [f32] {
        let len = self.samples() * self.width;
        let spare = &mut self.spare;
        self.embedding.get_or_insert_with(|| zeros(spare, len))
    }

    /// With respect to the embedding before its activation, beside what comes through it, `[n, d]`.
    #[must_use]
    pub fn pre(&self) -> Option<&[f32]> {
        self.pre.as_deref()
    }

    /// The same, to be filled.
    pub fn pre_mut(&mut self) -> &mut [f32] {
        let len = self.samples() * self.width;
        let spare = &mut self.spare;
        self.pre.get_or_insert_with(|| zeros(spare, len))
    }

    /// With respect to what the second pooling leaves, beside what comes through it, `[n, f]`.
    #[must_use]
    pub fn features(&self) -> Option<&[f32]> {
        self.features.as_deref()
    }

    /// The same, to be filled, of `f` features.
    pub fn features_mut(&mut self, f: usize) -> &mut [f32] {
        let len = self.samples() * f;
        let spare = &mut self.spare;
        self.features.get_or_insert_with(|| zeros(spare, len))
    }

    /// Number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.logits.len() / crate::CLASSES
    }
}

fn zeros(spare: &mut Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let mut values = spare.pop().unwrap_or_default();
    values.clear();
    values.resize(len, 0.0);
    values
}
