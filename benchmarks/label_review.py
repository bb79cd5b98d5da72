"""`discern review`: its seconds, and how many of planted wrong labels head its queue.

Seconds are CPU seconds of the whole command, start-up and page included. `small`: 10,000 images of
CIFAR-10, by edges and colors of the pixels; `photos`: 1,000 photos (flowers12 and hymenoptera) by
mobilenetv2. `flipped`: 5 % of the labels of flowers12's training images drawn anew, a seed each
round; the share of them in the first 5 % of the queue. Prints a table and one JSON line.

    python -m benchmarks.label_review --data FOLDER
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

MODEL = "mobilenetv2_100"
SMALL = 1_000  # of each of ten classes
PHOTOS = 1_000
SHARE = 0.05
PARTS = ("small", "photos", "flipped")


def review(data: Path, out: Path, weights: Path | None) -> dict[str, Any]:
    """One `discern review`; its JSON object with `cpu`, the CPU seconds of the child."""
    command = [sys.executable, "-m", "discern.cli.main", "review", str(data), "--out", str(out)]
    if weights is not None:
        command += ["--model", MODEL, "--weights", str(weights)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told: dict[str, Any] = json.loads(ended.stdout)
    used = [after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime]
    return told | {"cpu": sum(used), "system": used[1]}


def small_images(data: Path, folder: Path) -> Path:
    """10,000 JPEGs of 32 pixels in class folders."""
    counts: dict[str, int] = {}
    with tarfile.open(data / "cifar10" / "cifar10_jpeg.tar.gz") as archive:
        for member in archive:
            split, _, rest = member.name.partition("/")
            name = rest.partition("/")[0]
            if member.isfile() and split == "train" and counts.get(name, 0) < SMALL:
                counts[name] = counts.get(name, 0) + 1
                archive.extract(member, folder, filter="data")
    return folder / "train"


def photos(data: Path, folder: Path) -> tuple[list[Path], Path]:
    """(the training photos of flowers12, a table of 1,000 photos)."""
    for name, archive in (("flowers12", "flowers12.tar"), ("hymenoptera", "hymenoptera_200.tar")):
        with tarfile.open(data / name / archive) as stream:
            stream.extractall(folder / name, filter="data")
    both = [*(folder / "flowers12").rglob("*.jpg"), *(folder / "hymenoptera").rglob("*.jpg")]
    chosen = sorted(both)[:PHOTOS]
    table = folder / "photos.csv"
    write_labels(table, chosen, [path.parent.name for path in chosen])
    return sorted((folder / "flowers12" / "train").rglob("*.jpg")), table


def write_labels(table: Path, files: list[Path], labels: list[str]) -> None:
    """A table of paths and labels."""
    with open(table, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label"])
        writer.writerows(zip(files, labels, strict=True))


def flip(files: list[Path], seed: int) -> tuple[list[str], set[str]]:
    """(labels with 5 % drawn anew among the other classes, the paths of these)."""
    labels = [path.parent.name for path in files]
    classes = sorted(set(labels))
    rng = np.random.default_rng(seed)
    rows = sorted(rng.permutation(len(files))[: round(SHARE * len(files))].tolist())
    for row in rows:
        other = classes.index(labels[row]) + int(rng.integers(1, len(classes)))
        labels[row] = classes[other % len(classes)]
    return labels, {str(files[row]) for row in rows}


def found_first(out: Path, wrong: set[str]) -> float:
    """The share of `wrong` in as many first rows of the queue."""
    queue = json.loads((out / "review.json").read_text())["queue"][: len(wrong)]
    return sum(row["path"] in wrong for row in queue) / len(wrong)


def main() -> None:
    """Run the parts and print their figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--rounds", type=int, default=3, help="seeds of `flipped`")
    parser.add_argument("--only", choices=PARTS, help="one of the parts")
    given = parser.parse_args()
    weights = given.data / "weights" / f"{MODEL}.safetensors"
    results: dict[str, Any] = {}

    def show(part: str, told: dict[str, Any], **more: Any) -> None:
        kept = ("cpu", "system", "seconds", "images", "suspects", "accuracy")
        row = {name: told[name] for name in kept} | more
        results.setdefault(part, []).append(row)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
        print(f"{part:<8} {shown}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.only in (None, "small"):
            show("small", review(small_images(given.data, folder), folder / "small", None))
        if given.only in (None, "photos", "flipped"):
            files, table = photos(given.data, folder)
        if given.only in (None, "photos"):
            show("photos", review(table, folder / "photos", weights))
        for seed in range(given.rounds if given.only in (None, "flipped") else 0):
            labels, wrong = flip(files, seed)
            write_labels(folder / "flipped.csv", files, labels)
            out = folder / f"flipped-{seed}"
            told = review(folder / "flipped.csv", out, weights)
            show("flipped", told, found=found_first(out, wrong))
    print(json.dumps({
        "benchmark": "label_review", "torch": torch.__version__, "load": os.getloadavg()[0],
        "python": platform.python_version(), "results": results,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
