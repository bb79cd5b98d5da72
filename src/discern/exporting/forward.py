"""From images to logits, for golden images and predictions alike. Owns normalization on a device.

Axes: N images, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from discern.data.images import Pixels, Preprocess
from discern.data.pixel_arrays import white_of
from discern.feed.normalize import standardize
from discern.models.classifier import Output
from discern.models.named_heads import packed_logits


def normalized(images: Sequence[Pixels], preprocess: Preprocess, device: torch.device) -> Tensor:
    """[H, W, C] images as float32 [N, C, H, W] on `device`: (x / white - mean) / std.

    White is 255, or 65535 at depth 16.

    Under `preprocess.per_image` each image has its own mean and deviation instead.
    """
    stacked = torch.from_numpy(np.stack(images)).to(device)
    if preprocess.per_image:
        return standardize(stacked.permute(0, 3, 1, 2))
    batch = stacked.permute(0, 3, 1, 2).to(torch.float32).div_(white_of(preprocess.depth))
    mean = torch.tensor(preprocess.mean, dtype=torch.float32, device=device).view(1, -1, 1, 1)
    std = torch.tensor(preprocess.std, dtype=torch.float32, device=device).view(1, -1, 1, 1)
    return batch.sub_(mean).div_(std)


def forward(
    model: nn.Module, batch: Tensor, amp_dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [N, K] (of all heads side by side) and features [N, D], float32, in inference mode.

    `model` must be in eval mode, on the device of `batch`. `amp_dtype`: what autocast casts to;
    None leaves all in float32.
    """
    device = batch.device.type
    cast = torch.autocast(device, dtype=amp_dtype) if amp_dtype else contextlib.nullcontext()
    with torch.inference_mode(), cast:
        logits, features = model(batch)[:2]
        logits = packed_logits(Output(logits, features))
    return logits.float(), features.float()
