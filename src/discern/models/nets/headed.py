"""What all own networks share: features of an image, a linear head over them, rows of blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from discern.base.errors import ModelError


class HeadedNetwork(nn.Module):
    """`features` [N, C, H, W] -> [N, D], then `head`, a linear layer [N, D] -> [N, K].

    Those that pool feature maps give them by `maps` too.
    """

    head: nn.Linear

    def features(self, images: Tensor) -> Tensor:
        """Features [N, D] of `images` [N, C, H, W]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] of `images` [N, C, H, W]."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def set_grad_checkpointing(self, enable: bool = True) -> None:  # noqa: FBT001, FBT002 - timm's
        """Keep only what goes into each block, and compute its inside again for the gradients.

        Raises ModelError for a network without a row of blocks.
        """
        rows = [module for module in self.modules() if isinstance(module, Row)]
        if enable and not rows:
            raise ModelError(
                "this network has no blocks to compute again",
                where=type(self).__name__,
                hint="leave gradient checkpointing out: the network is small",
            )
        for row in rows:
            row.recomputes = enable


class Row(nn.Sequential):
    """Blocks one after another, as `nn.Sequential`; those with parameters may be recomputed."""

    recomputes = False

    def forward(self, x: Tensor) -> Tensor:
        """What the last block makes of what the others make of `x`."""
        again = self.recomputes and self.training and torch.is_grad_enabled()
        for block in self:
            # A bare activation in place would overwrite what is kept to begin again from.
            if again and any(True for _ in block.parameters()):
                x = recomputed(block, x)
            else:
                x = block(x)
        return x


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """`block(x)`, whose inside is forgotten and computed again for the gradients.

    Random draws are the same again, and batch norms count the images once.
    """
    contexts = partial(_contexts, block)
    output: Tensor = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    return output


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return contextlib.nullcontext(), _without_statistics(block)


@contextlib.contextmanager
def _without_statistics(block: nn.Module) -> Iterator[None]:
    """The norms of `block` count on copies of their running statistics meanwhile."""
    norms = [
        module
        for module in block.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    kept = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        for name, value in norm._buffers.items():
            norm._buffers[name] = None if value is None else value.clone()
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)


def require_size(name: str, image_size: tuple[int, int], least: int) -> None:
    """Raise ModelError if an image side is under `least` pixels."""
    if min(image_size) < least:
        raise ModelError(
            f"the images are too small for '{name}'",
            where="model",
            got=f"{image_size[0]} x {image_size[1]} pixels",
            expected=f"at least {least} pixels a side",
            hint="choose a larger image size, or the model 'mlp' or 'fast_net'",
        )
