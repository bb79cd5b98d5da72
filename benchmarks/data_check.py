"""`discern data check` against the bare decoder: images per CPU-second, and memory as data grows.

The images are the real photos of three sets, repeated with changed bytes (a comment segment with a
number after the JPEG's start), as files in one folder. The limit is decoding the same photos in
full, from memory, by the decoder that the check uses for them (simplejpeg), measured before and
after each check in the same process. Memory is the peak of child processes that check a part of
the files and all of them.

`--accuracy` instead measures the perceptual hash: pairs of different photos that it joins, and
changed copies that it finds.

    python -m benchmarks.data_check --data FOLDER_OF_DATA_SETS
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from discern.data.check import CheckOptions, check_data
from discern.data.duplicates import NEAR_DISTANCE, Looks, look_alike
from discern.data.examination import examine
from discern.data.scan import DataRequest

ARCHIVES = (
    "imagenet_samples/imagenet_samples_400.tar",
    "flowers12/flowers12.tar",
    "hymenoptera/hymenoptera_200.tar",
)
GOAL = 0.8
PART = 2_000


def read_photos(data: Path) -> list[bytes]:
    """The JPEG files of the three sets."""
    photos = []
    for name in ARCHIVES:
        with tarfile.open(data / name) as archive:
            files = (archive.extractfile(member) for member in archive if member.isfile())
            photos += [file.read() for file in files if file is not None]
    return photos


def write_copies(photos: list[bytes], folder: Path, count: int) -> None:
    """`count` files, photo after photo, each with bytes of its own."""
    for number in range(count):
        photo = photos[number % len(photos)]
        comment = b"\xff\xfe\x00\x06" + number.to_bytes(4, "big")
        (folder / f"{number:06d}.jpg").write_bytes(photo[:2] + comment + photo[2:])


def run_check(folder: Path, threads: int, *, near: bool = True) -> int:
    """Check the folder; the number of images read."""
    report = check_data(DataRequest(train=str(folder), threads=threads), CheckOptions(near=near))
    return report.files - report.unreadable


def decode_rate(photos: list[bytes]) -> float:
    """Images per CPU-second of decoding in full."""
    began = time.process_time()
    for photo in photos:
        simplejpeg.decode_jpeg(photo, "RGB")
    return len(photos) / (time.process_time() - began)


def peak_memory(folder: Path) -> float:
    """Peak memory in MB of a process of its own that checks `folder` with two threads."""
    command = [sys.executable, "-m", "benchmarks.data_check", "--memory", str(folder)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_memory(folder: Path) -> None:
    run_check(folder, threads=2)
    # Not getrusage: its peak counts the parent's memory at the fork, too.
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1000)


def measure_speed(photos: list[bytes], count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        part, whole = Path(name, "part"), Path(name, "whole")
        for folder, number in ((part, PART), (whole, count)):
            folder.mkdir()
            write_copies(photos, folder, number)
        run_check(part, threads=1)
        results: dict[str, list[float]] = {"1 thread": [], "2 threads": []}
        ratios: dict[str, list[float]] = {"1 thread": [], "2 threads": []}
        walls: dict[str, list[float]] = {"1 thread": [], "2 threads": []}
        limits = [decode_rate(photos)]
        for _ in range(rounds):
            for row, threads in (("1 thread", 1), ("2 threads", 2)):
                wall, cpu = time.monotonic(), time.process_time()
                read = run_check(whole, threads)
                results[row].append(read / (time.process_time() - cpu))
                walls[row].append(read / (time.monotonic() - wall))
                limits.append(decode_rate(photos))
                ratios[row].append(results[row][-1] / statistics.mean(limits[-2:]))
        memory = {str(PART): peak_memory(part), str(count): peak_memory(whole)}
    report(results, ratios, walls, limits, memory)


def report(
    results: dict[str, list[float]],
    ratios: dict[str, list[float]],
    walls: dict[str, list[float]],
    limits: list[float],
    memory: dict[str, float],
) -> None:
    median = statistics.median
    print(f"images per CPU-second; decode limit {median(limits):,.0f}"
          f" ({min(limits):,.0f} to {max(limits):,.0f}); goal {GOAL} of it")  # fmt: skip
    for row, values in results.items():
        print(
            f"  {row:<10}{median(values):>8,.0f}  ratio {median(ratios[row]):.2f}"
            f" ({min(ratios[row]):.2f} to {max(ratios[row]):.2f})"
            f"  images/s of wall time {median(walls[row]):,.0f}"
        )
    for count, megabytes in memory.items():
        print(f"  peak memory at {int(count):>7,} images {megabytes:>7.0f} MB")
    record = {
        "benchmark": "data_check",
        "command": " ".join(["python", *sys.argv]),
        "limit": median(limits),
        "results": {row: median(values) for row, values in results.items()},
        "ratio": {row: median(values) for row, values in ratios.items()},
        "wall": {row: median(values) for row, values in walls.items()},
        "peak_memory_mb": memory,
        "goal": GOAL,
        "cpus": len(os.sched_getaffinity(0)),
        "versions": {
            "python": platform.python_version(),
            "pillow": version("pillow"),
            "simplejpeg": version("simplejpeg"),
            "numpy": np.__version__,
        },
    }
    print(json.dumps(record))


def changed_copies() -> dict[str, Callable[[Image.Image], Image.Image]]:
    """Ways in which copies of a photo differ."""

    def cut(image: Image.Image, share: float) -> Image.Image:
        wide, tall = image.size
        box = (wide * share, tall * share, wide * (1 - share), tall * (1 - share))
        return image.crop(tuple(round(side) for side in box))

    return {
        "as it is": lambda image: image,
        "half size": lambda image: image.resize((image.width // 2, image.height // 2)),
        "brighter by 1.3": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
        "contrast 0.7": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
        "grey": lambda image: image.convert("L"),
        "cut by 2 %": lambda image: cut(image, 0.02),
        "cut by 5 %": lambda image: cut(image, 0.05),
        "turned by 3 degrees": lambda image: image.rotate(3),
        "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }


def looks_of(files: list[bytes]) -> Looks:
    looks = Looks.empty(len(files))
    pictures = [examine(file, "photo.jpg").picture for file in files]
    looks.put(np.arange(len(files)), np.stack([p for p in pictures if p is not None]))
    return looks


def measure_accuracy(photos: list[bytes]) -> None:
    """How often the hash joins different photos, and how often it finds changed copies."""
    looks = looks_of(photos)
    rows, columns = np.triu_indices(len(photos), 1)
    distance = np.bitwise_count(looks.hashes[rows] ^ looks.hashes[columns])
    near = distance <= NEAR_DISTANCE
    pairs = np.stack([rows[near], columns[near]], axis=1)
    print(f"{len(photos):,} photos, {len(rows):,} pairs; within bits: ", end="")
    print(", ".join(f"{bits}: {int((distance <= bits).sum())}" for bits in (0, 4, 8, 10, 12, 14)))
    print(f"joined at {NEAR_DISTANCE} bits: {int(look_alike(looks, pairs).sum())} pairs")
    for name, change in changed_copies().items():
        originals = photos[::3]
        copies = []
        for photo in originals:
            stream = io.BytesIO()
            change(Image.open(io.BytesIO(photo)).convert("RGB")).save(stream, "JPEG", quality=50)
            copies.append(stream.getvalue())
        found = share_found(originals, copies)
        print(f"  {name + ', quality 50':<34}found {100 * found:5.1f} %")


def share_found(originals: list[bytes], copies: list[bytes]) -> float:
    looks = looks_of(originals + copies)
    first = np.arange(len(originals))
    pairs: NDArray[np.int64] = np.stack([first, first + len(originals)], axis=1)
    distance = np.bitwise_count(looks.hashes[pairs[:, 0]] ^ looks.hashes[pairs[:, 1]])
    return float(((distance <= NEAR_DISTANCE) & look_alike(looks, pairs)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of data sets")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--memory", type=Path, help="print the peak memory of checking a folder")
    given = parser.parse_args()
    if given.memory:
        print_memory(given.memory)
        return
    if not given.data:
        parser.error("--data is needed: the folder with imagenet_samples, flowers12, hymenoptera")
    photos = read_photos(given.data)
    if given.accuracy:
        measure_accuracy(photos)
    else:
        measure_speed(photos, given.images, given.rounds)


if __name__ == "__main__":
    main()
