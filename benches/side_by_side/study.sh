#!/usr/bin/env bash
# A whole study, dissim against the same trainings in eager PyTorch, one process a core: the quick
# study, or what the options say (--rounds N; after --, options of `dissim run`).
set -euo pipefail
cd "$(dirname "$0")/../.."
benches/side_by_side/setup.sh >/dev/null
cargo build --release --quiet
export OMP_NUM_THREADS=1
exec target/pytorch/bin/python benches/side_by_side/study.py target/release/dissim pipeline.yaml "$@"
