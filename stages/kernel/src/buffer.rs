//! Aligned memory seen as vectors of the CPU's width.

use bytemuck::{Pod, Zeroable};
use pulp::Simd;

/// A cache line; vectors of every width are aligned within a run of them.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Zeroed f32 memory that starts at a cache line.
pub(crate) struct Buffer(Vec<Line>);

impl Buffer {
    /// Room for `floats` values.
    pub fn new(floats: usize) -> Self {
        Self(vec![Line::zeroed(); floats.div_ceil(16)])
    }

    pub fn floats(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }

    pub fn floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }

    pub fn vectors<S: Simd>(&self) -> &[S::f32s] {
        S::as_simd_f32s(self.floats()).0
    }

    pub fn vectors_mut<S: Simd>(&mut self) -> &mut [S::f32s] {
        S::as_mut_simd_f32s(self.floats_mut()).0
    }
}
