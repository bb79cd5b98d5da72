"""What a network is shown in evaluation, before the images themselves are measured."""

from __future__ import annotations

from typing import Any

from discern.data.images import Preprocess


def standard_input(image_size: tuple[int, int], channels: int) -> Preprocess:
    """Images of `image_size` (height, width) without a known mean and std."""
    return Preprocess(
        height=image_size[0],
        width=image_size[1],
        channels=channels,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )


def timm_input(record: dict[str, Any], height: int, width: int, channels: int) -> Preprocess:
    """The input that timm's `record` states, at this size; one channel takes the means' mean."""
    plain = standard_input((height, width), channels)
    mean = tuple(float(v) for v in record.get("mean") or plain.mean)
    std = tuple(float(v) for v in record.get("std") or plain.std)
    if channels != len(mean):
        mean = (sum(mean) / len(mean),) * channels
        std = (sum(std) / len(std),) * channels
    return Preprocess(
        height=height,
        width=width,
        channels=channels,
        mean=mean,
        std=std,
        interpolation=str(record.get("interpolation") or plain.interpolation),
        crop_pct=float(record.get("crop_pct") or plain.crop_pct),
    )
