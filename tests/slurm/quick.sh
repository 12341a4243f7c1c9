#!/usr/bin/env bash
# The whole quick study as Slurm jobs that share results over S3, with the runner, a job, the controller and the
# S3 server killed in mid-run; then on this machine alone; and the artifacts of the two compared.
#
#   tests/slurm/quick.sh [options of `dissim run`, such as --set seeds=1]
#
# Needs what .ci/cluster installs, root, and some ten minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
dissim=$(realpath "${DISSIM:-$root/target/release/dissim}")
server=$(realpath "${DISSIM_S3_SERVER:-$root/target/tools/bin/s3s-fs}")
work=$(mktemp -d "${TMPDIR:-/tmp}/dissim-quick.XXXXXX")
mkdir -p "$work"/{here,there,s3/bucket,slurm}
port=$((30000 + RANDOM % 10000))
export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=group AWS_SECRET_ACCESS_KEY=secret AWS_REGION=us-east-1
s3() { RUST_LOG=off "$server" --host 127.0.0.1 --port $port --access-key group --secret-key secret "$work/s3" >/dev/null 2>&1 & s3=$!; }
done_() { kill -9 $s3 2>/dev/null || true; "$here/cluster.sh" stop "$work/slurm" || true; rm -rf "$work"; }
trap done_ EXIT
s3
eval "$("$here/cluster.sh" start "$work/slurm" 2>/dev/null)"

cp "$root/pipeline.yaml" "$work/here"
{
    cat "$root/pipeline.yaml"
    echo 'executors: { slurm: { partition: p, poll: 1s } }'
    echo 'store: { remote: "s3://bucket/group", mode: readwrite }'
} > "$work/there/pipeline.yaml"
artifacts() {
    "$dissim" query "$@" --format csv \
        "SELECT task, artifact FROM tasks WHERE stage <> 'report' AND state = 'hit' ORDER BY task"
}
finished() { (artifacts "$@" 2>/dev/null | wc -l) || echo 0; }
until_finished() { while [ "$(finished "${@:2}")" -le "$1" ] && kill -0 $run 2>/dev/null; do sleep 1; done; }

cd "$work/there"
"$dissim" run --executor slurm "$@" > out 2> err & run=$!
until_finished 20 "$@"; echo "$(finished "$@") tasks: the runner is killed"; kill -9 $run; wait $run || true
"$dissim" run --executor slurm "$@" > out 2> err & run=$!
until_finished 35 "$@"; echo "$(finished "$@") tasks: a job is killed"
scancel --signal=KILL --full "$(squeue --noheader --array --states=R --format=%i | head -1)" || true
until_finished 45 "$@"; echo "$(finished "$@") tasks: the controller is killed"; "$here/cluster.sh" controller-stop "$work/slurm"
sleep 5; "$here/cluster.sh" controller-start "$work/slurm"
until_finished 60 "$@"; echo "$(finished "$@") tasks: the S3 server is killed"; kill -9 $s3; sleep 5; s3
wait $run || true
tail -1 out; grep -iE 'warning|again|killed' err | sort | uniq -c || true
# What failed for the killed job is computed now, and what S3 did not hear of is sent.
"$dissim" run --executor slurm "$@" 2>/dev/null | tail -1
"$dissim" cache push "$@" 2>/dev/null | tail -1

cd "$work/here"
"$dissim" run "$@" 2>/dev/null | tail -1
artifacts "$@" > "$work/of-here"
(cd "$work/there" && artifacts "$@") > "$work/of-there"
cmp "$work/of-here" "$work/of-there"
echo "$(($(wc -l < "$work/of-here") - 1)) artifacts are the same"
