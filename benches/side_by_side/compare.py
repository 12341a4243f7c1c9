"""Sets dissim's kernel against eager PyTorch, in turns, on one thread: `compare.py THROUGHPUT`."""

import argparse
import platform
import statistics
import subprocess

import torch

import lenet5

FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def spread(values):
    """Median (smallest to largest)."""
    return f"{statistics.median(values):,.2f} ({min(values):,.2f} to {max(values):,.2f})"


def whole(values):
    """The same without decimals."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def cpu():
    """The processor's name, as Linux tells it."""
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("throughput", help="target/release/examples/throughput")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement")
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"PyTorch {torch.__version__}, {cpu()}, one thread, batch {options.batch}, f32")
    print(f"n = {options.rounds} rounds of {options.seconds} s each, in turns; median (range)\n")
    print("| pass | dissim, images/s | PyTorch, images/s | format | ratio by round |")
    print("|---|---|---|---|---|")
    for mode in ["erm", "dissimilarity", "predict"]:
        ours, theirs = [], {name: [] for name in FORMATS}
        for _ in range(options.rounds):
            command = [options.throughput, mode, str(options.batch), str(options.seconds)]
            ours.append(float(subprocess.run(command, check=True, capture_output=True).stdout))
            for name, memory_format in FORMATS.items():
                theirs[name].append(
                    lenet5.images_per_second(mode, options.batch, options.seconds, memory_format)
                )
        best = max(theirs, key=lambda name: statistics.median(theirs[name]))
        for name in FORMATS:
            ratios = [a / b for a, b in zip(ours, theirs[name])]
            mark = " (better)" if name == best else ""
            row = [mode, whole(ours), whole(theirs[name]), name + mark, spread(ratios)]
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
