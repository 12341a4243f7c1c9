//! Asks the libtorch that torch-sys links, with the feature `tch`, for its version.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let Some(libraries) = env::var_os("DEP_TCH_LIBTORCH_LIB") else { return };
    let header = Path::new(&libraries).join("../include/torch/csrc/api/include/torch/version.h");
    println!("cargo::rerun-if-changed={}", header.display());
    let text = fs::read_to_string(&header).unwrap_or_default();
    let part = |name: &str| {
        let define = format!("#define TORCH_VERSION_{name} ");
        text.lines().find_map(|line| line.strip_prefix(&define)?.trim().parse::<u32>().ok())
    };
    let version = match ["MAJOR", "MINOR", "PATCH"].map(part) {
        [Some(major), Some(minor), Some(patch)] => format!("{major}.{minor}.{patch}"),
        _ => "of unknown version".to_owned(),
    };
    println!("cargo::rustc-env=DISSIM_LIBTORCH={version}");
}
