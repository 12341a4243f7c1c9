"""Sets a whole study against the same trainings in eager PyTorch, one process a core, in turns:
`study.py DISSIM PIPELINE`. dissim also writes checkpoints, results and the report; PyTorch trains and measures."""

import argparse
import json
import multiprocessing
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import lenet5
from compare import cpu

# Images a forward pass of an evaluation: more than dissim's 64, where PyTorch is faster.
EVALUATE = 256
LABELS = 10
FORMAT = torch.channels_last
SETS = {}


def compose(glyphs, backgrounds):
    """u8 glyphs [n, 28, 28] alpha blended in white on the centre of u8 images [n, 3, 32, 32]."""
    images = backgrounds.clone()
    alpha = glyphs.unsqueeze(1).int()
    middle = images[:, :, 2:30, 2:30].int()
    images[:, :, 2:30, 2:30] = ((alpha * 255 + (255 - alpha) * middle + 127) // 255).to(torch.uint8)
    return images


def splits(n_bg, seed, n_train):
    """Images and labels by name, and the training set's groups: the sizes are those of the study."""
    digits, backgrounds = SETS["digits"], SETS["backgrounds"]
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(60_000, generator=draw)
    pool = torch.randperm(50_000, generator=draw)
    owned, validation = pool[: LABELS * n_bg].view(LABELS, n_bg), pool[-500:]
    train, held_out = order[:n_train], order[-2_000:]

    def split(part, rows, pick):
        labels = digits[part]["labels"][rows].long()
        half, place = pick(labels)
        return compose(digits[part]["images"][rows], backgrounds[half]["images"][place]), labels, place

    def random(n):
        return torch.randint(0, n_bg, (n,), generator=draw)

    def own(labels):
        return "train", owned[labels, random(len(labels))]

    def other(labels):
        return "train", owned[(labels + 1) % LABELS, random(len(labels))]

    def unseen(labels):
        return "test", torch.arange(len(labels)) % 1_000

    everything = torch.arange(10_000)
    found = {
        "train": split("train", train, own),
        "id_val": split("train", held_out, own),
        "bg_val": split("train", held_out, lambda y: ("train", validation[torch.arange(len(y)) % 500])),
        "id_test": split("test", everything, own),
        "ood_test": split("test", everything, unseen),
        "conflict": split("test", everything, other),
    }
    black = torch.zeros(10_000, 3, 32, 32, dtype=torch.uint8)
    labels = digits["test"]["labels"].long()
    found["black"] = (compose(digits["test"]["images"], black), labels, labels)
    found["background_only"] = (backgrounds["train"]["images"][owned.flatten()], None, None)
    return found


def accuracy(model, images, labels):
    """Share of right answers; a forward pass alone where there are no labels."""
    right = 0
    with torch.inference_mode():
        for rows in torch.arange(len(images)).split(EVALUATE):
            _, logits = model(lenet5.load(images, rows, FORMAT))
            if labels is not None:
                right += (logits.argmax(1) == labels[rows]).sum().item()
    return right / len(images)


def train(task):
    """One training with its measurements: validation and OOD test each epoch, every split at the end."""
    torch.set_num_threads(1)
    torch.manual_seed(task["seed"])
    data = splits(task["n_bg"], task["seed"], task["n_train"])
    images, labels, places = data["train"]
    groups = places * LABELS + labels
    model = lenet5.LeNet5().to(memory_format=FORMAT)
    adam = torch.optim.Adam(model.parameters(), lr=task["lr"])
    for _ in range(task["epochs"]):
        for rows in torch.randperm(len(images)).split(task["batch_size"]):
            z, logits = model(lenet5.load(images, rows, FORMAT))
            loss = F.cross_entropy(logits, labels[rows])
            if task["method"] == "dissimilarity" and task["lambda"]:
                loss = loss + task["lambda"] * lenet5.dissimilarity(z, groups[rows])
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
        for name in ["id_val", "bg_val", "ood_test"]:
            accuracy(model, *data[name][:2])
    return {name: accuracy(model, *split[:2]) for name, split in data.items() if name != "train"}


def clocks():
    """Seconds on the wall, and of processor time by processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def timed(work):
    """Seconds on the wall and of processor time that `work` took in other processes, and its result."""
    start = clocks()
    result = work()
    return [end - begin for begin, end in zip(start, clocks())], result


def pytorch(tasks, cores):
    """All trainings, `cores` at a time."""
    pool = multiprocessing.get_context("fork").Pool(cores)
    results = pool.map(train, tasks, chunksize=1)
    pool.close()
    pool.join()
    return results


def show(options, project, stage):
    """dissim's records of a stage."""
    command = [options.dissim, "show", stage, *options.arguments, "--json"]
    return json.loads(subprocess.run(command, cwd=project, check=True, capture_output=True).stdout)


def read(options, project):
    """The tasks that dissim ran, and the images it fetched."""
    for stage in ["digits", "backgrounds"]:
        tree = show(options, project, stage)[0]["tree"]
        digest = {name: tree[f"{name}.safetensors"]["digest"] for name in ["train", "test"]}
        objects = pathlib.Path(project, "cache/objects")
        SETS[stage] = {name: load_file(objects / d[:2] / d) for name, d in digest.items()}
    n_train = show(options, project, "dataset")[0]["record"]["description"]["params"]["n_train"]
    tasks = []
    for row in show(options, project, "train"):
        params = row["record"]["description"]["params"]
        unknown = params["method"] not in ["erm", "dissimilarity"] or params["model"] != "lenet5"
        assert not unknown, f"{row['task']} is not written in PyTorch here"
        axes = dict(re.findall(r"(\w+)=([^,\]]+)", row["task"]))
        tasks.append({**params, "n_bg": int(axes["n_bg"]), "seed": int(axes["seed"]), "n_train": n_train})
    return tasks


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dissim", help="target/release/dissim")
    parser.add_argument("pipeline", help="pipeline.yaml")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("arguments", nargs="*", help="after --: options of `dissim run`, such as --set seeds=1")
    options = parser.parse_args()
    options.dissim = os.path.abspath(options.dissim)
    cores = len(os.sched_getaffinity(0))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        fetched = pathlib.Path(folder, "fetched")
        fetched.mkdir()
        shutil.copy(options.pipeline, fetched / "pipeline.yaml")
        run = [options.dissim, "run", "--jobs", str(cores), *options.arguments]
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*run, "digits", "backgrounds"], cwd=fetched, **quiet)
        print(f"PyTorch {torch.__version__}, {cpu()}, {cores} processes of one thread each")
        print(f"n = {options.rounds} in turns; load average before it {os.getloadavg()[0]:.1f}\n", flush=True)
        print("| round | trainings | dissim, s (of processor) | PyTorch, s (of processor) | ratio (of processor) |")
        print("|---|---|---|---|---|", flush=True)
        for number in range(1, options.rounds + 1):
            project = pathlib.Path(folder, str(number))
            shutil.copytree(fetched, project, symlinks=True)
            ours, _ = timed(lambda: subprocess.run(run, cwd=project, **quiet))
            tasks = read(options, project)
            theirs, results = timed(lambda: pytorch(tasks, cores))
            ratios = [t / o for t, o in zip(theirs, ours)]
            rows.append(ratios)
            cells = [f"{wall:.0f} ({processor:.0f})" for wall, processor in [ours, theirs]]
            cells.append("{:.2f} ({:.2f})".format(*ratios))
            print(f"| {number} | {len(tasks)} | " + " | ".join(cells) + " |", flush=True)
        mean = statistics.mean(r["ood_test"] for r in results)
        print(f"\nmean OOD accuracy of PyTorch's networks: {100 * mean:.1f} %")
        medians = [statistics.median(column) for column in zip(*rows)]
        print("dissim is {:.2f} times as fast ({:.2f} by processor time)".format(*medians))


if __name__ == "__main__":
    main()
