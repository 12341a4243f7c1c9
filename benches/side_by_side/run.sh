#!/usr/bin/env bash
# Ratios of training and evaluation throughput, dissim against eager PyTorch, on one thread.
# Options go to compare.py: --rounds N, --seconds S, --batch B.
set -euo pipefail
cd "$(dirname "$0")/../.."
benches/side_by_side/setup.sh >/dev/null
cargo build --release --quiet --example throughput
export OMP_NUM_THREADS=1
exec target/pytorch/bin/python benches/side_by_side/compare.py target/release/examples/throughput "$@"
