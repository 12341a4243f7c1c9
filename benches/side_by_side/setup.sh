#!/usr/bin/env bash
# PyTorch 2.9.1 from PyPI in target/pytorch: what run.sh and tests/pytorch.rs compare with.
# The x86-64 wheel on PyPI links CUDA, so its NVIDIA libraries come too: about 3 GB to download.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=target/pytorch
if ! "$folder/bin/python" -c 'import numpy, safetensors, torch' 2>/dev/null; then
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check torch==2.9.1 numpy safetensors
fi
"$folder/bin/python" -c 'import torch; print("PyTorch", torch.__version__)'
