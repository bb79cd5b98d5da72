"""FFCV beside our feed, on the JPEG bytes of FFCV's own files.

FFCV's writer packs the photos as JPEGs of quality 90, long side at most 512 and at most 341. Those
bytes are taken out of its files and given to our feed; FFCV reads the files themselves. Both cut a
RandomResizedCrop (area 0.08 to 1) of 224 pixels with a mirror and deliver normalized float32 in
batches of 64 with the label; `decode` is the full decode of the same bytes by simplejpeg and
nothing else. FFCV averages areas wherever an axis shrinks and decodes with the fast, less exact
DCT; `mixed` is our training feed as it is, antialiased where an axis shrinks by more than 1.5. One
thread, rounds interleaved, ratios round by round. FFCV takes new memory for every epoch, which
costs it a third of an epoch of 400 images: an epoch here shows every photo 16 times, so that this
weighs as little as on a data set of some size.

Before the clock starts, FFCV's center crops are compared with the decoded bytes, so that both read
the same pictures. FFCV's writer forks and may hang: it runs in a process of its own, with a limit.

    OMP_NUM_THREADS=1 python -m benchmarks.photos_ffcv --data FOLDER_WITH_imagenet_samples
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import io
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.photos import MEAN, SIDE, STD, TEST, made_photos, our_feed, read_archive
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from discern.data.images import decode_image
from discern.feed.throughput import FeedInput, FeedTest, RunEpoch, measure_feed
from discern.feed.throughput_rates import FeedThroughput, describe_throughput

LONG_SIDES, QUALITY = (512, 341), 90
GOAL = 1.4
# Images per CPU-second of FFCV, long side 512: 700 at 1, 960 at 4, 1060 at 16.
REPEATS = 16
WRITERS = 2
# 400 photos take 5 to 10 seconds of wall time with the start of Python.
WRITE_LIMIT_S, WRITE_TRIES = 60.0, 2
# The fast DCT and another libjpeg-turbo: more than this, in 1/255, would be another picture.
LARGEST_MEAN_DIFFERENCE = 2.0


class BetonSource:
    """The JPEG files inside an FFCV file, in memory; `path` is the file."""

    threadsafe = True

    def __init__(self, path: Path) -> None:
        from ffcv.fields.rgb_image import IMAGE_MODES
        from ffcv.reader import Reader

        self.path = path
        reader = Reader(str(path))
        content = path.read_bytes()
        table = reader.alloc_table
        sizes = dict(zip(table["ptr"].tolist(), table["size"].tolist(), strict=True))
        images = reader.metadata["f0"]
        if (images["mode"] != IMAGE_MODES["jpg"]).any():
            raise SystemExit(f"{path}: not every image is a JPEG")
        starts = images["data_ptr"].tolist()
        self._images = [content[start : start + sizes[start]] for start in starts]

    def __len__(self) -> int:
        return len(self._images)

    def read(self, position: int) -> bytes:
        return self._images[position]

    def name(self, position: int) -> str:
        return f"{self.path.name}, image {position}"


class Photos:
    """(RGB pixels, label) by number, as FFCV's writer asks for them."""

    def __init__(self, files: list[bytes]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> tuple[NDArray[np.uint8], int]:
        return np.asarray(Image.open(io.BytesIO(self._files[number])).convert("RGB")), 0


def read_photos(folder: Path | None) -> list[bytes]:
    return read_archive(folder) if folder else made_photos(200)


def write_beton(path: Path, long_side: int, files: list[bytes]) -> None:
    """The photos in FFCV's format, by its own writer."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    image = RGBImageField(write_mode="jpg", max_resolution=long_side, jpeg_quality=QUALITY)
    fields = {"image": image, "label": IntField()}
    DatasetWriter(str(path), fields, num_workers=WRITERS).from_indexed_dataset(Photos(files))


def run_limited(
    command: Sequence[str], *, seconds: float = WRITE_LIMIT_S, tries: int = WRITE_TRIES
) -> int:
    """Run a command that may hang; gives how often it did, and ends its children with it.

    Raises TimeoutError when it hung in every try, CalledProcessError when it failed.
    """
    for number in range(tries):
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # Its own session: the processes that it forked are in its group, and nobody else's.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            continue
        if process.returncode:
            print(err, file=sys.stderr)
            raise subprocess.CalledProcessError(process.returncode, command, out, err)
        return number
    raise TimeoutError(f"{tries} times not done within {seconds:.0f} s: {' '.join(command)}")


def pack(folder: Path, data: Path | None) -> tuple[dict[str, BetonSource], int]:
    """FFCV's files by the name of their container, and how often its writer hung."""
    packed, hangs = {}, 0
    for long_side in LONG_SIDES:
        path = folder / f"{long_side}.beton"
        command = [sys.executable, "-m", "benchmarks.photos_ffcv", "--write", str(path)]
        command += ["--long-side", str(long_side)] + (["--data", str(data)] if data else [])
        hangs += run_limited(command)
        packed[f"<= {long_side}"] = BetonSource(path)
    return packed, hangs


def ffcv_loader(path: Path, crop: Any, *, order: Any, **options: Any) -> Any:
    """FFCV's loader of normalized float32 [N,C,H,W] and labels, `crop` being its decoder."""
    from ffcv.fields.basics import IntDecoder
    from ffcv.loader import Loader
    from ffcv.transforms import (
        NormalizeImage,
        RandomHorizontalFlip,
        Squeeze,
        ToTensor,
        ToTorchImage,
    )

    mean, std = (np.array(values) * 255 for values in (MEAN, STD))
    flip = [RandomHorizontalFlip(0.5)] if options.pop("flip", False) else []
    image = [crop, *flip, NormalizeImage(mean, std, np.float32), ToTensor(), ToTorchImage()]
    return Loader(
        str(path),
        batch_size=TEST.batch_size,
        order=order,
        os_cache=True,
        drop_last=False,
        pipelines={"image": image, "label": [IntDecoder(), ToTensor(), Squeeze()]},
        **options,
    )


def training_loader(given: FeedInput, test: FeedTest, workers: int) -> Any:
    """FFCV's loader as the test wants it."""
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.loader import OrderOption

    size, augment = (test.preprocess.height, test.preprocess.width), test.augment
    crop = RandomResizedCropRGBImageDecoder(size, scale=augment.scale, ratio=augment.ratio)
    return ffcv_loader(
        given.source.path,
        crop,
        order=OrderOption.RANDOM,
        flip=augment.flip,
        num_workers=max(workers, 1),
        indices=given.positions,
        seed=0,
    )


def ffcv_peer(given: FeedInput, test: FeedTest, workers: int) -> RunEpoch:
    """Epochs of FFCV; its code is compiled in the round that warms up."""
    loader = training_loader(given, test, workers)
    return lambda _: sum(len(images) for images, _ in loader)


def describe_batch(images: Tensor) -> str:
    """What a loader delivers, in words."""
    layout = "NCHW" if images.is_contiguous() else "NHWC"
    return (
        f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}, stored {layout},"
        f" mean {images.mean():.2f}, deviation {images.std():.2f}"
    )


def delivered(given: FeedInput) -> dict[str, str]:
    """The first batch of either, described."""
    theirs = describe_batch(next(iter(training_loader(given, TEST, 0)))[0])
    with our_feed(given, 0) as feed:
        ours = describe_batch(next(iter(feed.epoch(0))).images)
    return {"mixed": ours, "ffcv": theirs}


def difference(source: BetonSource) -> dict[str, float]:
    """FFCV's center crops to the same crops of the bytes by Pillow and OpenCV, in 1/255.

    Raises SystemExit when they cannot be the same pictures.
    """
    import cv2
    from ffcv.fields.rgb_image import CenterCropRGBImageDecoder
    from ffcv.loader import OrderOption

    crop = CenterCropRGBImageDecoder((SIDE, SIDE), ratio=1.0)
    loader = ffcv_loader(source.path, crop, order=OrderOption.SEQUENTIAL, num_workers=1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    gaps = []
    for number, image in enumerate(image for images, _ in loader for image in images):
        pixels = decode_image(source.read(number), channels=3, name=source.name(number))
        height, width = pixels.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = pixels[top : top + side, left : left + side]
        square = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        wanted = torch.from_numpy(square).permute(2, 0, 1)
        gaps.append(((image * std + mean) * 255 - wanted).abs())
    found = {
        "mean": statistics.mean(float(gap.mean()) for gap in gaps),
        "mean_of_worst_image": max(float(gap.mean()) for gap in gaps),
        "max_of_all": max(float(gap.max()) for gap in gaps),
    }
    if len(gaps) != len(source) or found["mean"] > LARGEST_MEAN_DIFFERENCE:
        raise SystemExit(f"{source.path.name}: {len(gaps)} other pictures: {found}")
    return found


def ratios(result: FeedThroughput, containers: Sequence[str]) -> dict[str, Any]:
    """Ours over FFCV, and FFCV over the bare decode; prints them."""
    rows = {}
    for container in containers:
        for ours, theirs, goal in (
            ("mixed", "ffcv", GOAL),
            ("mixed", "decode", None),
            ("ffcv", "decode", None),
        ):
            one = result.ratio((container, ours, 0), (container, theirs, 0))
            name = f"{container}: {ours} / {theirs}"
            rows[name] = one.record() | {"goal": goal}
            wanted = f", goal {goal}" if goal else ""
            print(f"{name:<24} {one.median:5.2f}  ({one.low:.2f} to {one.high:.2f}{wanted})")
    return rows


def built_with() -> dict[str, str]:
    """Versions of the libraries that FFCV was built with, where pkg-config tells them."""
    if shutil.which("pkg-config") is None:
        return {}
    command = ["pkg-config", "--modversion"]
    asked = {name: subprocess.run([*command, name], capture_output=True, text=True, check=False)
             for name in ("libturbojpeg", "opencv4")}  # fmt: skip
    return {name: answer.stdout.strip() for name, answer in asked.items() if not answer.returncode}


def measure(data: Path | None, rounds: int, repeats: int) -> None:
    """Pack, compare, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        sources, hangs = pack(Path(folder), data)
        inputs = {
            name: FeedInput(source, np.tile(np.arange(len(source), dtype=np.int64), repeats))
            for name, source in sources.items()
        }
        sizes = {name: statistics.mean(map(len, (source.read(i) for i in range(len(source)))))
                 for name, source in sources.items()}  # fmt: skip
        gaps = {name: difference(source) for name, source in sources.items()}
        shown = {name: delivered(given) for name, given in inputs.items()}
        load = os.getloadavg()[0]
        test = dataclasses.replace(TEST, rounds=rounds, workers=(0,), decoders=("mixed", "decode"))
        began = time.perf_counter()
        result = measure_feed(inputs, test, peers={"ffcv": ffcv_peer})
        spent = time.perf_counter() - began
    count = len(next(iter(sources.values())))
    print(f"{count} photos {repeats} times an epoch, {rounds} rounds, {spent:.0f} s,"
          f" load {load:.1f}; FFCV's writer hung {hangs} times")  # fmt: skip
    for name, gap in gaps.items():
        words = ", ".join(f"{key} {value:.2f}" for key, value in gap.items())
        print(f"{name}: {sizes[name] / 1000:.0f} kB; ffcv's center crops differ by {words} of 255")
        print("\n".join(f"  {loader} delivers {text}" for loader, text in shown[name].items()))
    print("\n".join(describe_throughput(result)))
    rows = ratios(result, list(inputs))
    print(json.dumps({
        "benchmark": "photos_ffcv",
        "command": " ".join(["python", *sys.argv]),
        "images": count,
        "repeats": repeats,
        "real": data is not None,
        "load": load,
        "bytes": sizes,
        "writer_hangs": hangs,
        "delivered": shown,
        "difference": gaps,
        **result.record(),
        "ratios": rows,
        "versions": {"python": platform.python_version()} | {
            name: version(name)
            for name in ("torch", "ffcv", "numba", "numpy", "simplejpeg",
                         "opencv-python-headless", "pillow")
        },
        "ffcv_built_with": built_with(),
    }))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of data sets; default: made images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of each photo in an epoch")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--long-side", type=int, default=LONG_SIDES[0], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if importlib.util.find_spec("ffcv") is None:
        print("photos_ffcv: left out, for ffcv is not installed; docs/benchmarks.md says how")
        return
    if given.write:
        write_beton(given.write, given.long_side, read_photos(given.data))
        return
    torch.set_num_threads(1)
    # Of the OpenCV that FFCV is linked to; ours has no threads of its own either.
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
    measure(given.data, given.rounds, given.repeats)


if __name__ == "__main__":
    main()
