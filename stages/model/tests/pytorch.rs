//! Weights go to PyTorch and back, and both compute the same logits from them.
//!
//! Needs real PyTorch, which `benches/side_by_side/setup.sh` installs; without it the test says
//! so and passes, except where `DISSIM_REQUIRE_PYTORCH` is set.

use std::path::Path;
use std::process::Command;

use dissim_kernel::{CLASSES, Input, Network, PIXELS, layout};
use dissim_model::{Architecture, weights};

#[test]
fn pytorch_loads_the_weights_and_agrees_on_the_logits() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join("target/pytorch/bin/python");
    if !python.exists() {
        let required = std::env::var_os("DISSIM_REQUIRE_PYTORCH").is_some();
        assert!(!required, "no PyTorch: run benches/side_by_side/setup.sh");
        eprintln!("skipped: no PyTorch; benches/side_by_side/setup.sh installs it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    let wave = |i: usize| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 0.1;
    let parameters: Vec<f32> = (0..layout::WEIGHTS).map(wave).collect();
    let lenet5 = Architecture::default();
    weights::write(&ours, &lenet5, &parameters).unwrap();
    let script = root.join("benches/side_by_side/logits.py");
    let status = Command::new(&python).arg(script).args([&ours, &theirs]).status().unwrap();
    assert!(status.success());

    assert_eq!(weights::read(&theirs, &lenet5).unwrap(), parameters);
    let bytes = std::fs::read(&theirs).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let expected = file.tensor("logits").unwrap();
    assert_eq!(expected.shape(), [4, CLASSES]);
    let images: Vec<u8> = (0..4 * PIXELS).map(|i| (i * 31 % 251) as u8).collect();
    let mut network = Network::new(&parameters, 4);
    let input = Input { images: &images, rows: &[0, 1, 2, 3], mix: None };
    let outputs = network.forward(input);
    let found = (0..4).flat_map(|i| outputs.logits(i));
    for (found, expected) in found.zip(expected.data().as_chunks::<4>().0) {
        let expected = f32::from_le_bytes(*expected);
        assert!((found - expected).abs() < 1e-4, "{found} in place of PyTorch's {expected}");
    }
}
