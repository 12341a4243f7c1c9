#!/usr/bin/env python3
"""The runner beside ninja, DVC and Snakemake: the same trivial tasks, in turns, in one run.

    python3 benches/runner/compare.py --dissim target/release/dissim --tasks 10000 --repeats 7

Every task copies a file of its own. Measured: a cold run, and runs in which nothing changed. The
tools take turns, so that a noisy machine is noisy for all of them. Peers that are not installed are
left out; DVC and Snakemake get --peer-tasks tasks, since their cost a task is what counts.
Prints a Markdown table: median, lowest and highest of the runs in which nothing changed.
"""
import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path


def inputs(folder, n):
    (folder / "in").mkdir(parents=True)
    for i in range(n):
        (folder / "in" / str(i)).write_text(str(i))


def dissim(folder, n):
    inputs(folder, n)
    lists = ",\n      ".join(f"[in/{i}]" for i in range(n))
    (folder / "pipeline.yaml").write_text(
        "version: 1\nname: many\nstages:\n  copy:\n    kind: command\n"
        f"    matrix: {{ inputs: [\n      {lists}\n    ] }}\n"
        '    with: { shell: "cat in/* > out", outputs: [out] }\n'
    )


def ninja(folder, n):
    inputs(folder, n)
    edges = "".join(f"build out/{i}: copy in/{i}\n" for i in range(n))
    (folder / "build.ninja").write_text(f"rule copy\n  command = cat $in > $out\n{edges}")


def snakemake(folder, n):
    inputs(folder, n)
    (folder / "Snakefile").write_text(
        f'rule all:\n    input: expand("out/{{i}}", i=range({n}))\n'
        'rule copy:\n    input: "in/{i}"\n    output: "out/{i}"\n    shell: "cat {input} > {output}"\n'
    )


def dvc(folder, n):
    inputs(folder, n)
    (folder / "out").mkdir()
    items = "".join(f"    - {i}\n" for i in range(n))
    (folder / "dvc.yaml").write_text(
        f"stages:\n  copy:\n    foreach:\n{items}    do:\n"
        "      cmd: cat in/${item} > out/${item}\n      deps: [in/${item}]\n      outs: [out/${item}]\n"
    )
    subprocess.run([TOOLS["dvc"][0], "init", "--no-scm", "-q"], cwd=folder, check=True)


def measure(command, folder):
    """Wall seconds of a run that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    took = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.stderr.decode()[-2000:]}")
    return took


def peak(command, folder):
    """Peak memory in MB of one run; a process of its own, since the system keeps only the largest."""
    pid = os.fork()
    if pid == 0:
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        os._exit(min(used // 4, 255))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) * 4


parser = argparse.ArgumentParser()
parser.add_argument("--dissim", default="target/release/dissim")
parser.add_argument("--tasks", type=int, default=10000)
parser.add_argument("--peer-tasks", type=int, default=300)
parser.add_argument("--repeats", type=int, default=7)
parser.add_argument("--only", default="dissim,ninja,snakemake,dvc")
args = parser.parse_args()

cores = str(os.cpu_count())
TOOLS = {
    "dissim": [str(Path(args.dissim).resolve()), "run"],
    "ninja": [shutil.which("ninja"), "--quiet"],
    "snakemake": [shutil.which("snakemake"), "--cores", cores, "--quiet"],
    "dvc": [shutil.which("dvc"), "repro", "-q"],
}
MAKE = {"dissim": dissim, "ninja": ninja, "snakemake": snakemake, "dvc": dvc}
wanted = [name for name in args.only.split(",") if TOOLS[name][0]]
with tempfile.TemporaryDirectory() as root:
    count, cold, warm, folders = {}, {}, {}, {}
    for name in wanted:
        count[name] = args.tasks if name in ("dissim", "ninja") else args.peer_tasks
        folders[name] = Path(root) / name
        MAKE[name](folders[name], count[name])
    for name in wanted:
        cold[name] = measure(TOOLS[name], folders[name])
    for name in wanted:
        measure(TOOLS[name], folders[name])
    for _ in range(args.repeats):
        for name in wanted:
            warm.setdefault(name, []).append(measure(TOOLS[name], folders[name]))
    print("| tool | tasks | cold | ms a task | nothing changed | lowest to highest | us a task |")
    print("|---|---|---|---|---|---|---|")
    for name in wanted:
        n, times = count[name], warm[name]
        middle = statistics.median(times)
        print(
            f"| {name} | {n} | {cold[name]:.2f} s | {1e3 * cold[name] / n:.2f} | {middle:.3f} s "
            f"| {min(times):.3f} to {max(times):.3f} s (n = {len(times)}) | {1e6 * middle / n:.1f} |"
        )
    own = statistics.median(warm["dissim"]) / count["dissim"] if "dissim" in warm else None
    for name in wanted:
        if own and name != "dissim":
            a_task = statistics.median(warm[name]) / count[name]
            print(f"\nNothing changed, a task: dissim takes {own / a_task:.4g} x {name}'s time.")
    if "dissim" in folders:
        print(f"\nPeak memory of dissim when nothing changed: {peak(TOOLS['dissim'], folders['dissim'])} MB.")
