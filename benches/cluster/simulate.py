#!/usr/bin/env python3
"""A simulated Slurm: sbatch, squeue, sacct, scontrol and scancel, by the name it is called under.

A job takes DISSIM_SIM_LATENCY seconds from its submission, and leaves what `dissim job` would leave of
a command stage with the one output `out`. One in DISSIM_SIM_FAIL jobs is lost with its node (NODE_FAIL)
and leaves nothing; one in DISSIM_SIM_BUSY commands is refused as by a busy controller, and one in that
many submissions is taken without an answer. State is kept in the folder DISSIM_SIM; every call is
counted there.
"""

import json
import os
import random
import sys
import time
from pathlib import Path

HERE = Path(os.environ["DISSIM_SIM"])
LATENCY = float(os.environ.get("DISSIM_SIM_LATENCY", "2"))
FAIL = int(os.environ.get("DISSIM_SIM_FAIL", "0"))
BUSY = int(os.environ.get("DISSIM_SIM_BUSY", "0"))


def once_in(n):
    return n > 0 and random.randrange(n) == 0


def finish(folder):
    """What a job leaves: the output, the log, and last how it ended."""
    folder = Path(folder)
    output = folder / "output"
    output.mkdir(exist_ok=True)
    spec = json.loads((folder / "spec.json").read_text())
    (output / "out").write_text(spec["task"] + "\n")
    (folder / "log").write_text("")
    ended = {
        "version": 2, "failed": None, "peak_memory_bytes": 1 << 20, "started": int(time.time()),
        "duration_s": LATENCY, "host": "simulated", "metrics": {},
    }
    (folder / "ended.new").write_text(json.dumps(ended))
    (folder / "ended.new").rename(folder / "ended.json")


def sbatch(arguments):
    folder = Path(arguments[-1]).parent
    tasks = (folder / "list").read_text().splitlines()
    number = int(time.time() * 1e6)
    lost = [i for i in range(len(tasks)) if once_in(FAIL)]
    comment = next(a.split("=", 1)[1] for a in arguments if a.startswith("--comment="))
    state = {"tasks": len(tasks), "lost": lost, "until": time.time() + LATENCY, "comment": comment}
    (HERE / f"{number}.json").write_text(json.dumps(state))
    # The jobs: another process, as the cluster's nodes are.
    if os.fork() == 0:
        os.setsid()
        for stream in (0, 1, 2):
            os.close(stream)
        time.sleep(LATENCY)
        for index, task in enumerate(tasks):
            if index not in lost:
                finish(task)
        os._exit(0)
    if once_in(BUSY):
        sys.exit("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    print(number)


def arrays(arguments):
    listed = next(a.split("=", 1)[1] for a in arguments if a.startswith("--jobs="))
    for number in filter(None, listed.split(",")):
        file = HERE / f"{number}.json"
        if file.exists():
            yield number, json.loads(file.read_text())


def squeue(arguments):
    if "--format=%F|%k" in arguments:
        for file in HERE.glob("*.json"):
            state = json.loads(file.read_text())
            if time.time() < state["until"] + 1:
                print(f"{file.stem}|{state['comment']}")
        return
    for number, state in arrays(arguments):
        if time.time() < state["until"] + 1:
            for index in range(state["tasks"]):
                print(f"{number}_{index}|RUNNING|s1")


def sacct(arguments):
    for number, state in arrays(arguments):
        lost = set(state["lost"])
        for index in range(state["tasks"]):
            word = "NODE_FAIL" if index in lost else "COMPLETED"
            print(f"{number}_{index}|{word}|s1|0:0")


def main():
    name = Path(sys.argv[0]).name
    with open(HERE / "calls", "a") as calls:
        calls.write(name + "\n")
    if name != "scancel" and once_in(BUSY):
        sys.exit(f"{name}: error: Unable to contact slurm controller (connect failure)")
    commands = {"sbatch": sbatch, "squeue": squeue, "sacct": sacct}
    commands.get(name, lambda _: None)(sys.argv[1:])


main()
