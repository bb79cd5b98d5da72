"""Small images from memory: our feed against torchvision + PIL + DataLoader, one thread each.

Both shift by a random crop out of the image padded by 4, mirror at random, and normalize to float32
in batches of 128. Rounds are interleaved; the figure is images per CPU-second of the process and
its children. Ours includes the order of the epoch and the keyed draws, and one whole epoch is
checked against plain slicing before anything is timed.

    python -m benchmarks.small_images --data FOLDER_WITH_cifar10/cifar10_jpeg.tar.gz
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from discern.data.images import Preprocess
from discern.feed.augment import SmallImageAugment
from discern.feed.batch import FeedOptions
from discern.feed.draws import Draws
from discern.feed.resident import ResidentFeed
from discern.feed.windows import draw_shifts

# Of the CIFAR-10 training images, rounded.
MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
SIDE, PAD, BATCH, SEED = 32, 4, 128, 0
GOAL = 35.0


def read_archive(
    path: Path, split: str, count: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The (first `count`) images of a split out of the archive of JPEGs, SPLIT/CLASS/NAME.

    uint8 [N,32,32,3], and int64 [N]: the classes numbered by their names' order.
    """
    from PIL import Image

    images: list[NDArray[np.uint8]] = []
    names: list[str] = []
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            if len(images) == count:
                break
            file = archive.extractfile(member) if member.name.startswith(f"{split}/") else None
            if file is not None:
                images.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
                names.append(member.name.split("/")[1])
    return np.stack(images), np.unique(names, return_inverse=True)[1]


def cpu_seconds() -> float:
    """CPU time of this process, all its threads, and its finished children."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def our_feed(pixels: NDArray[np.uint8]) -> ResidentFeed:
    """The feed of small images, as training uses it."""
    preprocess = Preprocess(height=SIDE, width=SIDE, channels=3, mean=MEAN, std=STD)
    options = FeedOptions(
        batch_size=BATCH, training=True, seed=SEED, augment=SmallImageAugment(pad=PAD)
    )
    numbers = np.arange(len(pixels), dtype=np.int64)
    return ResidentFeed(pixels, numbers % 10, numbers, preprocess, options)


def peer_epoch(pixels: NDArray[np.uint8], count: int) -> Callable[[int], int]:
    """An epoch over `count` images by torchvision transforms on PIL images in a DataLoader."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    change = transforms.Compose(
        [
            transforms.RandomCrop(SIDE, padding=PAD),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    class Images(Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return change(Image.fromarray(pixels[index])), index % 10

    loader = DataLoader(Images(), batch_size=BATCH, shuffle=True)

    def run(_: int) -> int:
        return sum(len(images) for images, _ in loader)

    return run


def check_epoch(feed: ResidentFeed, pixels: NDArray[np.uint8], epoch: int) -> int:
    """Compare every image of an epoch with plain slicing; the number of images compared."""
    positions = torch.arange(len(pixels))
    shifts = draw_shifts(SmallImageAugment(pad=PAD), Draws(SEED, epoch), positions)
    tops, lefts, flips = (part.tolist() for part in shifts)
    padded = np.pad(pixels, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    seen = np.zeros(len(pixels), dtype=np.int64)
    for batch in feed.epoch(epoch):
        chosen = batch.positions.tolist()
        cuts = []
        for k in chosen:
            cut = padded[k, tops[k] : tops[k] + SIDE, lefts[k] : lefts[k] + SIDE]
            cuts.append(cut[:, ::-1] if flips[k] else cut)
        expected = ((np.stack(cuts) / 255.0 - MEAN) / STD).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(batch.images.numpy(), expected, atol=2e-6)
        np.testing.assert_array_equal(batch.targets.numpy(), batch.positions.numpy() % 10)
        seen[chosen] += 1
    np.testing.assert_array_equal(seen, 1)
    return int(seen.sum())


def measure(run: Callable[[int], int], numbers: range) -> float:
    """Images per CPU-second over the epochs `numbers`."""
    began = cpu_seconds()
    images = sum(run(number) for number in numbers)
    return images / (cpu_seconds() - began)


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of data sets; default: random pixels")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10, help="of ours in a round")
    parser.add_argument("--peer-images", type=int, default=10_000, help="of the peer in a round")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.data:
        archive = given.data / "cifar10" / "cifar10_jpeg.tar.gz"
        pixels = read_archive(archive, "train", given.images)[0]
    else:
        shape = (given.images, SIDE, SIDE, 3)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    feed = our_feed(pixels)
    checked = check_epoch(feed, pixels, epoch=7)
    peer = peer_epoch(pixels, min(given.peer_images, len(pixels)))

    def ours(epoch: int) -> int:
        return sum(len(batch.images) for batch in feed.epoch(epoch))

    ours(0)
    our_rates, peer_rates, ratios = [], [], []
    for number in range(given.rounds):
        our_rates.append(measure(ours, range(number * given.epochs, (number + 1) * given.epochs)))
        peer_rates.append(measure(peer, range(1)))
        ratios.append(our_rates[-1] / peer_rates[-1])
    rows = {"discern": summary(our_rates), "DataLoader + PIL": summary(peer_rates)}
    print(f"images per CPU-second, one thread, {given.rounds} rounds; {checked} images checked")
    for name, row in rows.items():
        print(f"  {name:<18}{row['median']:>10,.0f}  ({row['min']:,.0f} to {row['max']:,.0f})")
    ratio = summary(ratios)
    low, high = ratio["min"], ratio["max"]
    print(f"  {'ratio':<18}{ratio['median']:>9.1f}x  ({low:.1f} to {high:.1f}; goal {GOAL:.0f})")
    record = {
        "benchmark": "small_images",
        "command": " ".join(["python", *sys.argv]),
        "images": len(pixels),
        "real": given.data is not None,
        "rounds": given.rounds,
        "checked": checked,
        "results": rows,
        "ratio": ratio,
        "goal": GOAL,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
