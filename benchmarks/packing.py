"""Packing photos: our packer against Python's tarfile, and against a loop of PIL.

Passing bytes through: the same members, `.jpg` and `.cls`, by `tarfile` with a SHA-256 of the
shard, one thread, wall time; neither waits for the disk, or, apart, both do. Scaling to a short
side of 256, antialiased, and encoding at quality 90: a PIL loop that decodes, converts, resizes
bilinearly and saves, per CPU-second; both write the same tar. The second thread: our wall time
with two workers; beside it what the machine has to give, two threads that only hash, which is near
2 on two idle cores. Rounds are interleaved; the images that come out are checked first.

    python -m benchmarks.packing --data FOLDER_WITH_imagenet_samples/imagenet_samples_400.tar
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from discern.data.images import decode_image
from discern.data.manifest import Head, Locations, Manifest, unique_ids
from discern.data.pack_plan import PackOptions
from discern.data.packing import pack
from discern.data.sources import FileSource
from discern.data.tar_shards import list_shards

SIDE, QUALITY = 256, 90
# Goals: wall, CPU and wall ratios.
GOALS = {"pass-through / tarfile": 0.8, "scaled / PIL": 1.2, "second thread": 1.85}


class Timed(NamedTuple):
    """Seconds of a run."""

    wall: float
    cpu: float


def extract(data: Path, folder: Path) -> Manifest:
    """The photos as files of `folder`, each of the class of its name's first part."""
    with tarfile.open(data / "imagenet_samples" / "imagenet_samples_400.tar") as archive:
        members = [member for member in archive if member.isreg()]
        names = [Path(member.name).name for member in members]
        contents = [archive.extractfile(member).read() for member in members]
    for name, content in zip(names, contents, strict=True):
        (folder / name).write_bytes(content)
    labels = [name.partition("_")[0] for name in names]
    classes = tuple(sorted(set(labels)))
    targets = np.array([classes.index(label) for label in labels], dtype=np.int64)
    return Manifest(
        ids=unique_ids(hashlib.sha256(content).hexdigest() for content in contents),
        locations=Locations.files(names),
        heads=(Head("label", "single", classes, targets),),
        split=np.full(len(names), -1, dtype=np.int8),
        root=folder,
        layout="photos",
    )


@contextmanager
def without_fsync() -> Iterator[None]:
    """No wait for the disk, as the peers' plain loops have none."""
    real = os.fsync
    os.fsync = void
    try:
        yield
    finally:
        os.fsync = real


def peer(manifest: Manifest, out: Path, change: Callable[[bytes], bytes] | None) -> None:
    """A tar of `.jpg` and `.cls` members by tarfile, and its SHA-256: what a short script does."""
    out.mkdir()
    path = out / "data.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        targets = manifest.targets.tolist()
        for number, name in enumerate(manifest.locations.paths.tolist()):
            content = (manifest.root / name).read_bytes()
            if change is not None:
                content = change(content)
            for suffix, data in ((".jpg", content), (".cls", str(targets[number]).encode())):
                member = tarfile.TarInfo(f"{number:09d}{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    with open(path, "rb") as stream:
        hashlib.file_digest(stream, "sha256").hexdigest()
        os.fsync(stream.fileno())


def scale_by_pil(content: bytes) -> bytes:
    """Short side 256, quality 90."""
    from PIL import Image

    image = Image.open(io.BytesIO(content)).convert("RGB")
    wide, tall = image.size
    size = (SIDE * wide // tall, SIDE) if wide >= tall else (SIDE, SIDE * tall // wide)
    stream = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def timed(work: Callable[[Path], None], folder: Path) -> Timed:
    """Run `work` on a new folder, which is removed again."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    began, cpu = time.perf_counter(), time.process_time()
    work(out)
    result = Timed(time.perf_counter() - began, time.process_time() - cpu)
    shutil.rmtree(out)
    return result


def check(manifest: Manifest, folder: Path) -> tuple[int, float]:
    """(images passed through unchanged, mean difference of scaled ones from Pillow's, in levels).

    Before encoding: both are compared as pixels.
    """
    pack(manifest, folder / "same")
    source = FileSource(list_shards(folder / "same"))
    for row, name in enumerate(manifest.locations.paths.tolist()):
        if source.read(row) != (manifest.root / name).read_bytes():
            raise SystemExit(f"{name} was changed")
    options = PackOptions(resize=SIDE, color=1, encoding="png", compress_level=1)
    pack(manifest, folder / "scaled", options)
    source = FileSource(list_shards(folder / "scaled"))
    from PIL import Image

    differences = []
    for row, name in enumerate(manifest.locations.paths.tolist()):
        ours = decode_image(source.read(row), channels=3)
        whole = decode_image((manifest.root / name).read_bytes(), channels=3)
        size = (ours.shape[1], ours.shape[0])
        theirs = Image.fromarray(whole).resize(size, Image.Resampling.BILINEAR)
        differences.append(float(np.abs(np.asarray(theirs, dtype=int) - ours).mean()))
    return len(source), statistics.mean(differences)


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(manifest: Manifest, folder: Path, rounds: int) -> dict[str, list[Timed]]:
    """Every way in turn, `rounds` times."""
    scaling = {"resize": SIDE, "quality": QUALITY, "encoding": "jpg", "color": 1}

    def ours(**options: object) -> Callable[[Path], None]:
        return lambda out: void(pack(manifest, out, PackOptions(**options)))

    ways: dict[str, Callable[[Path], None]] = {
        "tarfile": lambda out: peer(manifest, out, None),
        "pass-through": ours(workers=1),
        "pass-through, two workers": ours(workers=2),
        "PIL": lambda out: peer(manifest, out, scale_by_pil),
        "scaled": ours(workers=1, **scaling),
        "scaled, two workers": ours(workers=2, **scaling),
    }
    synced = ("tarfile", "pass-through")
    times: dict[str, list[Timed]] = {}
    for number in range(rounds + 1):
        for name, work in ways.items():
            with without_fsync():
                result = timed(work, folder)
            if number:  # the first round fills caches
                times.setdefault(name, []).append(result)
        for threads in (1, 2):
            began = time.perf_counter()
            hash_in_threads(threads)
            if number:
                taken = Timed(time.perf_counter() - began, 1.0)
                times.setdefault(f"hashing {threads}", []).append(taken)
        for name in synced:
            result = timed(ways[name], folder)
            if number:
                times.setdefault(f"{name}, on the disk", []).append(result)
    return times


def hash_in_threads(threads: int) -> None:
    """The same bytes hashed by one thread, or by several at once: no Python, no lock, no file."""
    block = bytes(8 << 20)
    share = 24 // threads

    def work(_: int) -> None:
        for _ in range(share):
            hashlib.sha256(block).digest()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))


def void(_: object) -> None:
    """Drop a result."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        manifest = extract(given.data, folder / "photos")
        same, difference = check(manifest, folder)
        times = measure(manifest, folder, given.rounds)
    count = len(manifest)

    def ratios(ours: str, theirs: str, what: str) -> dict[str, float]:
        pairs = zip(times[ours], times[theirs], strict=True)
        return summary([getattr(peer, what) / getattr(own, what) for own, peer in pairs])

    results = {
        "pass-through / tarfile": ratios("pass-through", "tarfile", "wall"),
        "pass-through / tarfile, on the disk": ratios(
            "pass-through, on the disk", "tarfile, on the disk", "wall"
        ),
        "scaled / PIL": ratios("scaled", "PIL", "cpu"),
        "second thread": ratios("scaled, two workers", "scaled", "wall"),
        "second thread, only hashing": ratios("hashing 2", "hashing 1", "wall"),
    }
    print(f"{count} photos, {given.rounds} rounds; {same} passed through unchanged;")
    print(f"scaled pixels differ from Pillow's by {difference:.2f} of 255 levels in the mean")
    for name, taken in times.items():
        if name.startswith("hashing"):
            continue
        wall, cpu = (summary([count / getattr(t, k) for t in taken]) for k in ("wall", "cpu"))
        spread = f"({wall['min']:,.0f} to {wall['max']:,.0f})"
        print(
            f"  {name:<28}{wall['median']:>8,.0f}/s wall {spread:<20}{cpu['median']:>7,.0f}/cpu-s"
        )
    for name, ratio in results.items():
        goal = f"; goal {GOALS[name]}" if name in GOALS else ""
        print(
            f"  {name:<36}{ratio['median']:.2f}x  ({ratio['min']:.2f} to {ratio['max']:.2f}{goal})"
        )
    record = {
        "benchmark": "packing",
        "command": " ".join(["python", *sys.argv]),
        "images": count,
        "rounds": given.rounds,
        "checked": same,
        "mean_difference": difference,
        "load": os.getloadavg()[0],
        "results": results,
        "goals": GOALS,
        "versions": {"python": platform.python_version(), "numpy": np.__version__}
        | {name: version(name) for name in ("pillow", "opencv-python-headless", "simplejpeg")},
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
