"""Features of images beside the bare forward pass of the same network.

`ours`: `discern.embed`'s extraction (`worker.embedding.embed_split`): reading, decoding, resizing,
the pass, the table. `bare`: the same number of images in batches of the same size through the same
network under `torch.inference_mode`, from one batch that lies ready in memory. One arithmetic
thread, the other cores decode; rounds take turns; wall seconds, and CPU seconds of all threads.

    python -m benchmarks.embedding --data FOLDER [--rounds 5]
    python -m benchmarks.embedding --data FOLDER --model RUN --source mnist --root FOLDER/mnist
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from discern.compute.device import usable_cores
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import open_source
from discern.training.material import FeedSettings, Material
from discern.worker.embedding import embed_split
from discern.worker.open_model import OpenRequest, open_model

NETWORK, WEIGHTS = "mobilenetv2_100", "weights/mobilenetv2_100.safetensors"
BATCH = 64
GOAL = 0.95


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> int:
    """Measure and print; 0 if the goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="folder of flowers12 and weights")
    parser.add_argument("--model", help="a run or bundle, instead of the pretrained network")
    parser.add_argument("--source", help="DATA, instead of flowers12")
    parser.add_argument("--root", help="folder with a built-in set's files")
    parser.add_argument("--split", default="test")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    asked = OpenRequest(model=NETWORK, weights=str(given.data / WEIGHTS), device="cpu")
    if given.model:
        asked = OpenRequest(model=given.model, device="cpu")
    opened = open_model(asked)
    source = given.source or str(given.data / "flowers12" / "flowers12.tar")
    request = DataRequest(
        train=source, root=given.root, label=None, on_bad_image="error", split=None
    )
    manifest = scan_data(request, None).manifest
    settings = FeedSettings(
        device=opened.device.torch_device, workers=usable_cores(), seed=0, flip=False
    )
    material = Material(manifest, open_source(manifest), opened.preprocess, settings)
    count = len(material.positions(given.split))
    with material.evaluation_feed(given.split, BATCH) as feed:
        ready = next(iter(feed.epoch(0))).images.clone()

    def bare() -> None:
        with torch.inference_mode():
            left = count
            while left > 0:
                opened.model(ready[:left])
                left -= len(ready)

    def ours() -> None:
        embed_split(opened, material, given.split, BATCH)

    bare(), ours()
    rounds = [(timed(bare), timed(ours)) for _ in range(given.rounds)]
    walls = [plain[0] / whole[0] for plain, whole in rounds]
    cpus = [plain[1] / whole[1] for plain, whole in rounds]
    speed = count / statistics.median(whole[0] for _, whole in rounds)
    print(
        f"{opened.name}, {count} images of {source}: {speed:.0f} img/s, "
        f"{statistics.median(walls):.3f} of the bare pass's speed ({min(walls):.3f} to "
        f"{max(walls):.3f}), {statistics.median(cpus):.3f} in CPU seconds"
    )
    print(json.dumps({
        "benchmark": "embedding", "torch": torch.__version__, "images": count, "batch": BATCH,
        "network": opened.name, "wall": walls, "cpu": cpus, "goal": GOAL,
    }))  # fmt: skip
    return 0 if statistics.median(walls) >= GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
