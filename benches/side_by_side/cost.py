"""What an image of training costs, against the engine, the batch size and the number of tasks at once:
`cost.py THROUGHPUT`, where THROUGHPUT is target/release/examples/throughput. Needs no PyTorch.

Wall times count on an idle machine. Processor times are what a loaded one can still tell."""

import argparse
import os
import resource
import statistics
import subprocess
import time


def used():
    """Processor seconds of processes that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def microseconds(options, mode, batch, engine="fused", tasks=1):
    """Of an image, on the wall and of the processor, with `tasks` processes at once."""
    command = [options.throughput, mode, str(batch), str(options.seconds), engine]
    before, start = used(), time.perf_counter()
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(tasks)]
    rates = [float(process.communicate()[0]) for process in processes]
    # Start and setup are in both, so their share drops out.
    busy = (used() - before) / tasks / (time.perf_counter() - start)
    wall = 1e6 / statistics.mean(rates)
    return wall, wall * min(busy, 1.0)


def table(options, head, cases):
    """One row a case: the median and range of its rounds, the cases in turns."""
    found = {name: [] for name in cases}
    for _ in range(options.rounds):
        for name, case in cases.items():
            found[name].append(microseconds(options, **case))
    print(f"| {head} | microseconds an image | of the processor |")
    print("|---|---|---|")
    for name, values in found.items():
        cells = []
        for column in zip(*values):
            cells.append(f"{statistics.median(column):.1f} ({min(column):.1f} to {max(column):.1f})")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("throughput", help="target/release/examples/throughput")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement")
    parser.add_argument("--engines", default="flex,scalar,fused", help="tch too, where it was built")
    options = parser.parse_args()
    print(f"n = {options.rounds} rounds of {options.seconds} s, in turns; median (range)")
    print(f"{os.cpu_count()} cores, load average before it {os.getloadavg()[0]:.1f}\n", flush=True)
    engines = options.engines.split(",")
    for mode in ["erm", "dissimilarity", "predict"]:
        cases = {engine: {"mode": mode, "batch": 64, "engine": engine} for engine in engines}
        table(options, f"{mode}, engine", cases)
    sizes = [8, 16, 32, 64, 128, 256, 1024]
    table(options, "dissimilarity, batch", {n: {"mode": "dissimilarity", "batch": n} for n in sizes})
    cores = os.cpu_count()
    counts = sorted({1, cores, 2 * cores})
    cases = {n: {"mode": "dissimilarity", "batch": 64, "tasks": n} for n in counts}
    table(options, "dissimilarity, tasks at once", cases)


if __name__ == "__main__":
    main()
