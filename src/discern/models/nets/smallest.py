"""The smallest images that a network takes, found by trying and not from a table."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from discern.base.errors import ModelError

# Sides above this are not tried: every network of the older zoos takes 224 pixels.
LARGEST_TRIED = 224


def smallest_side(build: Callable[[], nn.Module], channels: int) -> int | None:
    """The least side in pixels of square images that the network of `build` takes.

    None if it takes none up to 224. Built and run on the meta device: no memory, no arithmetic.
    Costs the building and 8 passes, 0.1 to 3 s. A network that cannot be built there is built in
    memory.
    """
    try:
        with torch.device("meta"):
            network = build()
            sample = torch.zeros(1)
    except (RuntimeError, NotImplementedError):
        # Some builders read values back (drop-path rates, position tables): those need real memory.
        network, sample = build(), torch.zeros(1)
    network.eval()
    below, enough = 0, LARGEST_TRIED
    if not _takes(network, sample, channels, enough):
        return None
    while enough - below > 1:
        middle = (below + enough) // 2
        if _takes(network, sample, channels, middle):
            enough = middle
        else:
            below = middle
    return enough


def with_smallest_side(
    error: ModelError, least: int | None, image_size: tuple[int, int]
) -> ModelError:
    """`error`, of a network that could not take its images, with the least side that it takes.

    The error itself if the size is not what binds.
    """
    if least is None or min(image_size) >= least:
        return error
    return ModelError(
        error.what,
        where=error.where,
        got=f"{image_size[0]} x {image_size[1]} pixels",
        expected=f"at least {least} pixels a side",
        hint=f"enlarge the images with --img-size {least}, or choose the model 'fast_net'",
    )


def _takes(network: nn.Module, sample: torch.Tensor, channels: int, side: int) -> bool:
    images = torch.zeros(1, channels, side, side, device=sample.device)
    try:
        with torch.no_grad():
            network(images)
    except (RuntimeError, ValueError, AssertionError):
        return False  # what is asked is only whether it can
    return True
