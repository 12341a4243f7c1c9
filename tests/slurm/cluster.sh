#!/usr/bin/env bash
# A Slurm of two virtual nodes on this machine, in a folder of its own: for the tests.
#
#   cluster.sh start FOLDER     prints what to set in the environment
#   cluster.sh stop FOLDER
#   cluster.sh controller-stop FOLDER | controller-start FOLDER
#
# Needs Debian's slurm-wlm and munge, and root. The system's own Slurm, if there is one, is left alone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
action=$1 folder=$(realpath -m "$2")
conf=$folder/slurm.conf
export SLURM_CONF=$conf PATH=$PATH:/usr/sbin

stop_by_pid_file() {
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
}

case $action in
start)
    mkdir -p "$folder"/state "$folder"/d.n1 "$folder"/d.n2
    # Ports of its own, so that several may run: the first, and the two after it.
    port=${DISSIM_SLURM_PORT:-$((20000 + RANDOM % 10000))}
    sed -e "s|@FOLDER@|$folder|g" -e "s|@PORT@|$port|g" \
        -e "s|@NODE1@|$((port + 1))|g" -e "s|@NODE2@|$((port + 2))|g" "$here/slurm.conf" > "$conf"
    dd if=/dev/urandom of="$folder/munge.key" bs=1 count=1024 status=none
    chmod 400 "$folder/munge.key"
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    slurmctld
    slurmd -N n1
    slurmd -N n2
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --format %T 2>/dev/null | sort -u)" = idle ] && break
        sleep 0.2
    done
    sinfo >&2
    echo "export SLURM_CONF=$conf"
    ;;
stop)
    for daemon in d.n1 d.n2 ctld munged; do stop_by_pid_file "$folder/$daemon.pid"; done
    ;;
controller-stop) stop_by_pid_file "$folder/ctld.pid" ;;
controller-start) slurmctld ;;
*) echo "unknown: $action" >&2; exit 2 ;;
esac
