#!/usr/bin/env bash
# Many tasks through a simulated Slurm and a local S3 server: what the runner itself costs.
#
#   benches/cluster/run.sh [TASKS]
#
# Both answer late and fail now and then (simulate.py and s3.py say how; the variables here are their
# defaults). DISSIM_S3_SERVER=.../s3s-fs takes that server in place of s3.py. Prints wall and processor time
# of the runner, its peak memory, Slurm commands and S3 requests, for a first run and for another project
# that finds every result in the shared store.
set -euo pipefail
tasks=${1:-10000}
here=$(cd "$(dirname "$0")" && pwd)
dissim=$(realpath "${DISSIM:-$here/../../target/release/dissim}")
work=$(mktemp -d "${TMPDIR:-/tmp}/dissim-cluster.XXXXXX")
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir -p "$work"/{bin,slurm,s3/bucket,first,second}
for name in sbatch squeue sacct scontrol scancel; do ln -s "$here/simulate.py" "$work/bin/$name"; done
port=$((30000 + RANDOM % 10000))
export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_REGION=us-east-1
export DISSIM_S3_LATENCY=${DISSIM_S3_LATENCY:-5} DISSIM_S3_FAIL=${DISSIM_S3_FAIL:-1000}
export DISSIM_SIM=$work/slurm DISSIM_SIM_LATENCY=${DISSIM_SIM_LATENCY:-2} DISSIM_SIM_FAIL=${DISSIM_SIM_FAIL:-1000}
export DISSIM_SIM_BUSY=${DISSIM_SIM_BUSY:-20} PATH=$work/bin:$PATH
if [ -n "${DISSIM_S3_SERVER:-}" ]; then
    RUST_LOG=off "$DISSIM_S3_SERVER" --host 127.0.0.1 --port $port --access-key a --secret-key b "$work/s3" >/dev/null 2>&1 &
else
    "$here/s3.py" $port &
fi
for project in first second; do
    cat > "$work/$project/pipeline.yaml" <<YAML
version: 1
name: scale
store: { remote: "s3://bucket/scale", mode: readwrite }
executors: { slurm: { at_once: 20000, poll: 2s } }
stages:
  one:
    kind: command
    matrix: { n: "range($tasks)" }
    with: { run: ["true"], outputs: [out] }
YAML
done
sleep 1
for project in first second; do
    cd "$work/$project"
    echo "== $project project, $tasks tasks"
    /usr/bin/time -f "%e s wall, %U s user, %S s system, %M kB at most" \
        "$dissim" run --executor slurm --json 2> err | tail -1 | grep -oE '"(line":"[^"]*"|remote":[^}]*\})' || { tail -5 err; exit 1; }
    grep -vE '"event"|^\[|start ' err | cut -c1-200 | tail -6
    sort "$DISSIM_SIM/calls" 2>/dev/null | uniq -c | tr '\n' ' '; echo
    : > "$DISSIM_SIM/calls"
    [ -n "${DISSIM_S3_SERVER:-}" ] || { curl -s "http://127.0.0.1:$port/-/counts"; echo; }
done
