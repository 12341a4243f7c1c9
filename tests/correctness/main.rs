//! What must hold whatever a study looks like: values arrive as they were written, results are never
//! mixed, nothing obeys what a program prints, and a hit is the artifact that its task would compute.
//!
//! Each module covers one part of the tool, with small real studies that run the binary.

#![cfg(target_os = "linux")]

mod fixture;
mod programs;
mod shared;
mod store;
mod surface;
mod tables;
mod values;
