"""The verb behind `discern bench io`: the speed of the feed beside the bare decoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.names import counted, did_you_mean
from discern.base.progress_bar import counting_bar
from discern.compute.device import choose_device
from discern.config.request import Request
from discern.data.images import Preprocess
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import open_source
from discern.feed.throughput import DECODERS, FeedInput, FeedTest, measure_feed, spread_input
from discern.feed.throughput_peers import PEERS
from discern.feed.throughput_rates import describe_throughput
from discern.worker.request_values import pair_value, set_threads

# What users type, and what tables call it: torchvision's loader of PIL images.
PEER_NAMES = {name.split()[0]: name for name in PEERS}


def io_verb(request: Request, console: Console) -> int:
    """Measure the feed on each DATA in interleaved rounds."""
    given = request.arguments
    set_threads(request)
    side = pair_value(request, "data.image_size", 224)
    device = choose_device(pair_value(request, "compute.device", "auto"))
    inputs = {_name(d): _input(d, int(given["images"]), console) for d in given["data"]}
    test = FeedTest(
        preprocess=Preprocess(
            height=side,
            width=side,
            channels=3,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        # No loader gets less than a batch: timm's leaves out what does not fill one.
        batch_size=min(given["batch_size"], *(len(one.positions) for one in inputs.values())),
        rounds=given["rounds"],
        workers=tuple(given["workers"]),
        decoders=tuple(given["decoders"]) or DECODERS,
        device=device.torch_device,
    )
    peers = {PEER_NAMES[name]: PEERS[PEER_NAMES[name]] for name in map(_peer, given["peers"])}
    with counting_bar(console, "rounds") as progress:
        result = measure_feed(inputs, test, peers=peers, progress=progress)
    console.say(f"device   {device}, {counted(torch.get_num_threads(), 'arithmetic thread')}")
    for line in describe_throughput(result):
        console.result(line)
    console.emit(result.record())
    return 0


def _name(data: str) -> str:
    """What the tables call a data set: the last part of its path."""
    return data.rstrip("/").rpartition("/")[2] or data


def _peer(name: str) -> str:
    if name not in PEER_NAMES:
        raise ConfigError(
            "no such peer", where="--peers", got=name, expected=", ".join(PEER_NAMES),
            hint=did_you_mean(name, PEER_NAMES),
        )  # fmt: skip
    return name


def _input(data: str, images: int, console: Console) -> FeedInput:
    """At most `images` of the data, spread over it; classes are not needed."""
    request = replace(DataRequest(train=data, needs_labels=False), split=None)
    with counting_bar(console, "images opened") as progress:
        manifest = scan_data(request, progress).manifest
    console.say(f"data     {manifest.layout}")
    positions = np.arange(len(manifest), dtype=np.int64)
    return spread_input(open_source(manifest), positions, images=images)
