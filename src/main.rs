//! The `dissim` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    dissim::cli::main()
}
