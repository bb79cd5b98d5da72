"""A CIFAR-sized training in one file of plain torch, with the losses of Discern's trainer.

What the trainer adds (checkpoints, exact resume, readings, callbacks, guards) is left out; what it
computes is all here: seeded weights, the keyed order and crops of the feed, SGD with momentum under
a cosine. The feed is Discern's, for its order and crops are its own; every other line is torch.

    python examples/one_file_cifar.py DATA --steps 20
"""

from __future__ import annotations

import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn

from discern.base.seeds import derive_seed
from discern.data.images import Preprocess
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import load_resident, open_source
from discern.feed.augment import SmallImageAugment
from discern.feed.batch import FeedOptions
from discern.feed.resident import ResidentFeed

SEED, BATCH, RATE, MOMENTUM, DECAY = 0, 32, 0.1, 0.9, 1e-4
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Block(nn.Module):
    """x + f(x), two 3x3 convolutions."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.skip = nn.Conv2d(width_in, width, 1, stride, bias=False) if stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps to maps."""
        inner = F.relu(self.norm1(self.conv1(x)))
        kept = x if self.skip is None else self.skip(x)
        return F.relu(kept + self.norm2(self.conv2(inner)))


class Small(nn.Module):
    """Three stages of one block each."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.last = nn.Linear(64, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, K] of images [N, 3, H, W]."""
        return self.last(self.blocks(self.stem(images)).mean((2, 3)))


def build(num_classes: int, channels: int, image_size: tuple[int, int]) -> nn.Module:
    """The network, as `--model examples/one_file_cifar.py:build` calls it."""
    if channels != 3 or min(image_size) < 8:
        raise ValueError(f"RGB images of 8 pixels and more, not {channels} x {image_size}")
    return Small(num_classes)


def make_feed(data: str) -> tuple[ResidentFeed, int]:
    """(keyed, cropped and mirrored batches of the training images, number of classes)."""
    manifest = scan_data(DataRequest(train=data)).manifest
    rows, source = manifest.positions("train"), open_source(manifest)
    preprocess = Preprocess(height=32, width=32, channels=3, mean=MEAN, std=STD)
    options = FeedOptions(
        batch_size=BATCH, training=True, seed=derive_seed(SEED, "feed") >> 16,
        augment=SmallImageAugment(pad=4, flip=True),
    )  # fmt: skip
    pixels = load_resident(source, rows, preprocess)
    return ResidentFeed(pixels, manifest.targets[rows], rows, preprocess, options), len(
        manifest.classes
    )


def train(data: str, steps: int = 20) -> list[float]:
    """The loss of each of the first `steps` steps, the rate falling to 0 over them."""
    feed, num_classes = make_feed(data)
    torch.manual_seed(derive_seed(SEED, "weights"))
    network = Small(num_classes).to(memory_format=torch.channels_last)
    spared = [p for p in network.parameters() if p.ndim < 2]  # biases and norms: no weight decay
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": DECAY}, {"params": spared, "weight_decay": 0.0}],
        lr=RATE, momentum=MOMENTUM,
    )  # fmt: skip
    torch.manual_seed(derive_seed(SEED, "stage", 0))
    network.train()
    losses: list[float] = []
    epoch = 0
    while len(losses) < steps:
        for batch in feed.epoch(epoch):
            rate = RATE * 0.5 * (1 + math.cos(math.pi * len(losses) / steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = F.cross_entropy(network(batch.images), batch.targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if len(losses) == steps:
                break
        epoch += 1
    return losses


def main() -> None:
    """Train as the command line says and print the losses."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    for step, loss in enumerate(train(given.data, given.steps), 1):
        print(f"step {step}: loss {loss:.6f}")


if __name__ == "__main__":
    main()
