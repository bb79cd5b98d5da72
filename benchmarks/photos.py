"""Photos from bytes: our feed against torchvision + PIL + DataLoader, timm and the bare decoder.

All cut a RandomResizedCrop (area 0.08 to 1) of 224 pixels with a mirror and deliver normalized
float32 in batches of 64, but `decode`: the full decode of the same bytes by simplejpeg, RGB, and
nothing else. `mixed` is the training feed (antialiased where an axis shrinks by more than 1.5),
`fast` the same with linear sampling everywhere, `pillow` our feed with the reference reader.
Two containers: the original files, and the same at short side 256, quality 90 ("packed"); both are
read from memory. One thread by images per CPU-second, two by wall time; rounds are interleaved,
ratios are taken round by round. Memory is the peak of processes of their own, one a loader.

    OMP_NUM_THREADS=1 python -m benchmarks.photos --data FOLDER_WITH_imagenet_samples
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from discern.data.images import Preprocess
from discern.feed.batch import FeedOptions
from discern.feed.draws import Draws, Operation
from discern.feed.loader import LoaderFeed, LoaderThreads
from discern.feed.photo import photo_reader
from discern.feed.photo_training import training_reader
from discern.feed.throughput import (
    FeedInput,
    FeedTest,
    measure_feed,
)
from discern.feed.throughput_peers import PEERS
from discern.feed.throughput_rates import FeedThroughput, describe_throughput

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE, BATCH = 224, 64
ORIGINAL, PACKED = "original", "packed"
PIL = "torchvision + PIL"
# (container, numerator, denominator, least ratio) of images per CPU-second on one thread.
GOALS = (
    (ORIGINAL, "mixed", PIL, 1.9),
    (ORIGINAL, "mixed", "timm", 1.6),
    (ORIGINAL, "mixed", "decode", 0.72),
    (PACKED, "mixed", PIL, 3.4),
)
SCALING_GOAL, MEMORY_GOAL_MB = 1.85, 400
TEST = FeedTest(
    preprocess=Preprocess(height=SIDE, width=SIDE, channels=3, mean=MEAN, std=STD),
    batch_size=BATCH,
)


class MemorySource:
    """Encoded images in memory, so that no disk is measured."""

    threadsafe = True

    def __init__(self, images: list[bytes]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def read(self, position: int) -> bytes:
        return self._images[position]

    def name(self, position: int) -> str:
        return f"image {position}"


def read_archive(folder: Path) -> list[bytes]:
    """The files of the 400 photos."""
    path = folder / "imagenet_samples" / "imagenet_samples_400.tar"
    with tarfile.open(path) as archive:
        return [archive.extractfile(member).read() for member in archive if member.isfile()]


def made_photos(count: int) -> list[bytes]:
    """JPEGs of 500 x 375 with waves of all lengths, for a run without the photos."""
    generator = np.random.default_rng(0)
    made = []
    for _ in range(count):
        pixels = np.zeros((375, 500, 3), np.float32)
        for step in (4, 16, 64):
            rough = generator.integers(0, 256, (375 // step + 1, 500 // step + 1, 3), np.uint8)
            soft = Image.fromarray(rough).resize((500, 375), Image.Resampling.BICUBIC)
            pixels += np.asarray(soft, np.float32) / 3
        data = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(data, "JPEG", quality=95, subsampling=0)
        made.append(data.getvalue())
    return made


def repacked(data: bytes) -> bytes:
    """The photo at short side 256, quality 90."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    share = 256 / min(image.size)
    size = tuple(max(256, round(side * share)) for side in image.size)
    out = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR).save(out, "JPEG", quality=90)
    return out.getvalue()


def as_input(images: list[bytes]) -> FeedInput:
    return FeedInput(MemorySource(images), np.arange(len(images), dtype=np.int64))


def difference(given: FeedInput, resample: str) -> dict[str, float]:
    """To the reference, in 1/255: mean, 99th percentile and largest, mean over the images."""
    ours = training_reader(TEST.preprocess, TEST.augment, resample)
    reference = photo_reader(TEST.preprocess, TEST.augment)
    positions = torch.from_numpy(given.positions)
    rows = Draws(0, 0).table(positions, Operation.RESIZED_CROP, TEST.augment.draws).numpy()
    means, tails, largest = [], [], []
    first, second = (np.empty((SIDE, SIDE, 3), np.uint8) for _ in range(2))
    for position in given.positions.tolist():
        ours(given.source, position, rows[position], first)
        reference(given.source, position, rows[position], second)
        gap = np.abs(first.astype(np.int16) - second)
        means.append(float(gap.mean()))
        tails.append(float(np.percentile(gap, 99)))
        largest.append(int(gap.max()))
    return {
        "mean": statistics.mean(means),
        "mean_of_worst_image": max(means),
        "p99": statistics.mean(tails),
        "max": statistics.mean(largest),
        "max_of_all": max(largest),
    }


def tree_memory_mb(pid: int) -> float:
    """Resident MB of a process and its children, shared pages counted once (PSS)."""
    import psutil

    total = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def our_feed(given: FeedInput, workers: int) -> LoaderFeed:
    """The training feed as it is by default."""
    return LoaderFeed(
        given.source,
        np.zeros(len(given.positions), np.int64),
        given.positions,
        TEST.preprocess,
        FeedOptions(batch_size=BATCH, training=True, augment=TEST.augment),
        threads=LoaderThreads(workers=workers),
    )


def show_memory(loader: str, workers: int, folder: Path | None) -> None:
    """In a process of its own: two epochs of one loader, then its peak."""
    torch.set_num_threads(1)
    base = tree_memory_mb(os.getpid())
    images = read_archive(folder) if folder else made_photos(128)
    given = as_input(images)
    peak, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, tree_memory_mb(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    if loader in PEERS:
        run = PEERS[loader](given, TEST, workers)
        seen = sum(run(epoch) for epoch in range(2))
    else:
        with our_feed(given, workers) as feed:
            seen = sum(len(batch.images) for epoch in range(2) for batch in feed.epoch(epoch))
    done.set()
    watcher.join()
    encoded = sum(map(len, images)) / 2**20
    print(json.dumps({"peak_mb": peak, "encoded_mb": encoded, "torch_mb": base, "images": seen}))


def measure_memory(folder: Path | None) -> list[dict[str, Any]]:
    """Peak memory of our feed and of the DataLoader, by threads or workers."""
    rows = []
    for loader in ("mixed", PIL):
        for workers in (0, 2):
            command = [sys.executable, "-m", "benchmarks.photos", "--memory-of", loader]
            command += ["--workers", str(workers)] + (["--data", str(folder)] if folder else [])
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(answer.stdout.splitlines()[-1])
            rows.append({"loader": loader, "workers": workers, **found})
    return rows


def ratios(result: FeedThroughput) -> dict[str, dict[str, float]]:
    """Every ratio that has a goal, and those reported beside them; prints them."""
    goals = {pair[:3]: pair[3] for pair in GOALS}
    beside = itertools.product(
        (ORIGINAL, PACKED), ("mixed", "fast", "pillow"), ("decode", PIL, "timm")
    )
    rows = {}
    for container, ours, theirs in dict.fromkeys([*goals, *beside]):
        goal = goals.get((container, ours, theirs))
        one = result.ratio((container, ours, 0), (container, theirs, 0))
        name = f"{container}: {ours} / {theirs}"
        rows[name] = one.record() | {"goal": goal}
        wanted = f", goal {goal}" if goal else ""
        print(f"{name:<44} {one.median:5.2f}  ({one.low:.2f} to {one.high:.2f}{wanted})")
    worth = result.ratio((PACKED, "mixed", 0), (ORIGINAL, PIL, 0))
    rows["packed mixed / original " + PIL] = worth.record() | {"goal": 5.0}
    print(f"{'packed: mixed / original: ' + PIL:<44} {worth.median:5.2f}  (goal 5)")
    return rows


def scaling(inputs: dict[str, FeedInput], rounds: int) -> dict[str, dict[str, float]]:
    """Wall speed of two reading threads over that of one thread for all; prints it."""
    test = dataclasses.replace(TEST, rounds=rounds, workers=(0, 2), decoders=("mixed",))
    result = measure_feed(inputs, test)
    rows = {}
    for container in inputs:
        two = result.rate(container, "mixed", 2)
        more_cpu = result.ratio((container, "mixed", 0), (container, "mixed", 2))
        rows[container] = {"wall": two.scaling.record(), "cpu": more_cpu.record()}
        wall = two.scaling
        print(
            f"{container}: two threads over one, wall {wall.median:.2f} ({wall.low:.2f} to"
            f" {wall.high:.2f}; goal {SCALING_GOAL} on two idle cores), CPU time of an image"
            f" {more_cpu.median:.2f} ({more_cpu.low:.2f} to {more_cpu.high:.2f})"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of data sets; default: made images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        show_memory(given.memory_of, given.workers, given.data)
        return
    torch.set_num_threads(1)
    images = (read_archive(given.data) if given.data else made_photos(200))[: given.images]
    inputs = {ORIGINAL: as_input(images), PACKED: as_input([repacked(one) for one in images])}
    load = os.getloadavg()[0]
    test = dataclasses.replace(TEST, rounds=given.rounds, workers=(0,))
    began = time.perf_counter()
    result = measure_feed(inputs, test, peers=PEERS)
    print(f"{len(images)} photos, {given.rounds} rounds, {time.perf_counter() - began:.0f} s")
    print("\n".join(describe_throughput(result)))
    rows = ratios(result)
    wall = scaling(inputs, given.rounds)
    gaps = {f"{name}, {way}": difference(one, way)
            for name, one in inputs.items() for way in ("mixed", "fast")}  # fmt: skip
    for name, gap in gaps.items():
        print(f"{name}: {', '.join(f'{key} {value:.2f}' for key, value in gap.items())} of 255")
    memory = [] if given.no_memory else measure_memory(given.data)
    for one in memory:
        print(f"peak memory, {one['loader']}, {one['workers']} workers: {one['peak_mb']:.0f} MB"
              f" (goal {MEMORY_GOAL_MB}), of which torch alone {one['torch_mb']:.0f},"
              f" the files {one['encoded_mb']:.0f}")  # fmt: skip
    print(json.dumps({
        "benchmark": "photos",
        "command": " ".join(["python", *sys.argv]),
        "images": len(images),
        "real": given.data is not None,
        "load": load,
        **result.record(),
        "ratios": rows,
        "scaling": wall,
        "difference": gaps,
        "memory": memory,
        "versions": {"python": platform.python_version()} | {
            name: version(name)
            for name in ("torch", "torchvision", "timm", "pillow", "simplejpeg",
                         "opencv-python-headless", "numpy")
        },
    }))  # fmt: skip


if __name__ == "__main__":
    main()
