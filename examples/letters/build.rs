//! Bakes the fingerprint of this stage's code into the crate.
fn main() {
    dissim_fingerprint::bake();
}
