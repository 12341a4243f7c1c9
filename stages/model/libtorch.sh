#!/usr/bin/env bash
# Gets libtorch 2.9.1 and runs a command with it, so that the feature `tch` builds and its tests run:
#
#   stages/model/libtorch.sh cargo build --release --features tch
#
# libtorch comes out of PyPI's wheel of PyTorch, which has to be downloaded whole (0.9 GB), and takes
# 0.5 GB in target/libtorch-2.9.1: for Linux on x86-64, CPU only. Set LIBTORCH to use another one: for
# a GPU the folder `torch` of an installed PyTorch 2.9, or PyTorch's own archive of libtorch.
set -euo pipefail
version=2.9.1
root=$(cd "$(dirname "$0")/../.." && pwd)
if [ -z "${LIBTORCH:-}" ]; then
    LIBTORCH=$root/target/libtorch-$version
    if [ ! -d "$LIBTORCH" ]; then
        [ "$(uname -sm)" = "Linux x86_64" ] || {
            echo "libtorch.sh: its wheels are for Linux on x86-64; set LIBTORCH to a libtorch $version" >&2
            exit 1
        }
        mkdir -p "$root/target"
        work=$(mktemp -d "$root/target/libtorch.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        # libtorch_cpu.so of this wheel asks for two of CUDA's libraries, and works without a GPU.
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
            --python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
            --dest "$work" "torch==$version" \
            nvidia-cuda-runtime-cu12==12.8.90 nvidia-cuda-cupti-cu12==12.8.90 >&2
        python3 - "$work" <<'PYTHON'
import pathlib, re, shutil, sys, zipfile

work = pathlib.Path(sys.argv[1])
wanted = re.compile(
    r"torch/(include/.*[^/])|(?:torch|nvidia/\w+)/"
    r"(lib/(?:libtorch_cpu\.so|libc10\.so|libgomp\.so\.1|libcupti\.so\.12|libcudart\.so\.12))"
)
for wheel in work.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if match := wanted.fullmatch(name):
                path = work / "libtorch" / (match[1] or match[2])
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target)
PYTHON
        # The wheel's own libtorch.so is a stub that links CUDA.
        cc -shared -o "$work/libtorch/lib/libtorch.so" -x c /dev/null
        mv -T "$work/libtorch" "$LIBTORCH"
        rm -rf "$work"
        trap - EXIT
    fi
fi
export LIBTORCH
export LD_LIBRARY_PATH=$LIBTORCH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
[ $# -gt 0 ] || { echo "libtorch is in $LIBTORCH"; exit 0; }
exec "$@"
