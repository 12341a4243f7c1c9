#!/usr/bin/env python3
"""The runner beside ninja, DVC, Snakemake and b3sum: the same work, in turns, in one run.

    python3 -m venv peers && peers/bin/pip install dvc snakemake && sudo apt install ninja-build b3sum
    PATH=$PWD/peers/bin:$PATH python3 benches/runner/compare.py --tasks 10000 --repeats 7

Every task copies a file of its own. Measured: a cold run, runs in which nothing changed, what a task
costs beside the same commands in a shell, and the hash of an input. The tools take turns, so that a
noisy machine is noisy for all of them; a ratio is the median over the turns, with the lowest and the
highest. Peers that are not installed are left out; DVC and Snakemake get --peer-tasks tasks, since
their cost a task is what counts. Prints Markdown.
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
        "      cmd: cat in/${item} > out/${item}\n"
        "      deps:\n      - in/${item}\n      outs:\n      - out/${item}\n"
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


def processor():
    """Seconds of processor time of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak(command, folder):
    """Peak memory in MB of one run; a process of its own, since the system keeps only the largest."""
    pid = os.fork()
    if pid == 0:
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        os._exit(min(used // 4, 255))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) * 4


def spread(values, digits=3):
    """Median (lowest to highest)."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def overhead(root, n, repeats):
    """Milliseconds that a cold task takes beyond the same command in a shell, one at a time: by the clock,
    and of processor time, which other work on the machine changes less."""
    loop = f'mkdir shell; i=0; while [ $i -lt {n} ]; do /bin/sh -c "cat in/$i > shell/$i"; i=$((i+1)); done'
    beyond = {"dissim": [], "ninja": []}

    def both(command, folder):
        before = processor()
        return measure(command, folder), processor() - before

    for turn in range(repeats):
        took = {}
        for name in [tool for tool in beyond if TOOLS[tool][0]]:
            folder = root / f"overhead-{name}-{turn}"
            MAKE[name](folder, n)
            one = ["--jobs", "1"] if name == "dissim" else ["-j1"]
            took[name] = both(TOOLS[name] + one, folder)
        shell = both(["/bin/sh", "-c", loop], folder)
        for name, costs in took.items():
            beyond[name].append([1e3 * (cost - base) / n for cost, base in zip(costs, shell)])
    for name, values in beyond.items():
        if values:
            wall, own = (spread(of, 2) for of in zip(*values))
            runs = f"n = {len(values)} runs of {n}"
            print(f"\nA cold task beyond its command in a shell, {name}: {wall} ms, {own} ms of processor time ({runs}).")


def hashing(root, gigabytes, repeats):
    """dissim's hash of an input, start and planning included, beside b3sum."""
    folder = root / "hash"
    folder.mkdir()
    with open(folder / "big", "wb") as big:
        for _ in range(gigabytes * 1000):
            big.write(os.urandom(10**6))
    (folder / "pipeline.yaml").write_text(
        "version: 1\nname: hash\nstages:\n  read:\n    kind: command\n"
        '    with: { shell: "wc -c big > out", inputs: [big], outputs: [out] }\n'
    )
    status = [TOOLS["dissim"][0], "status"]
    ratios = []
    for _ in range(repeats + 1):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        own = measure(status, folder)
        ratios.append(measure([shutil.which("b3sum"), "big"], folder) / own)
    # The first turn reads the file into memory.
    print(f"\nHash of {gigabytes} GB: {spread(ratios[1:], 2)} of b3sum's speed (n = {repeats}).")


parser = argparse.ArgumentParser()
parser.add_argument("--dissim", default="target/release/dissim")
parser.add_argument("--tasks", type=int, default=10000)
parser.add_argument("--peer-tasks", type=int, default=300)
parser.add_argument("--repeats", type=int, default=7)
parser.add_argument("--overhead-tasks", type=int, default=200)
parser.add_argument("--gigabytes", type=int, default=1)
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
    root = Path(root)
    count, cold, warm, folders = {}, {}, {}, {}
    for name in wanted:
        count[name] = args.tasks if name in ("dissim", "ninja") else args.peer_tasks
        folders[name] = root / name
        MAKE[name](folders[name], count[name])
    for name in wanted:
        cold[name] = measure(TOOLS[name], folders[name])
    # dissim believes no file that is younger than two seconds: the run after that notes what it saw.
    time.sleep(3)
    for name in wanted:
        measure(TOOLS[name], folders[name])
    for _ in range(args.repeats):
        for name in wanted:
            warm.setdefault(name, []).append(measure(TOOLS[name], folders[name]))
    print("| tool | tasks | cold | ms a task | nothing changed | us a task |")
    print("|---|---|---|---|---|---|")
    for name in wanted:
        n, times = count[name], warm[name]
        print(
            f"| {name} | {n} | {cold[name]:.2f} s | {1e3 * cold[name] / n:.2f} "
            f"| {spread(times)} s (n = {len(times)}) | {1e6 * statistics.median(times) / n:.1f} |"
        )
    for name in wanted:
        if name != "dissim" and "dissim" in warm:
            turns = zip(warm["dissim"], warm[name])
            ratios = [(own / count["dissim"]) / (peer / count[name]) for own, peer in turns]
            print(f"\nNothing changed, a task: dissim takes {spread(ratios, 4)} of {name}'s time.")
    if "dissim" in folders:
        print(f"\nPeak memory of dissim when nothing changed: {peak(TOOLS['dissim'], folders['dissim'])} MB.")
        if args.overhead_tasks:
            overhead(root, args.overhead_tasks, args.repeats)
        if args.gigabytes and shutil.which("b3sum"):
            hashing(root, args.gigabytes, args.repeats)
