"""Every random draw of the feed, as a pure function of integers.

Owns the counter-based hash: (seed, epoch, sample, operation, draw) -> 64 bits, in integer tensor
operations, a vector of samples at a time. There is no generator and no state: a draw has the same
value on any device, in any batch and in any thread. Does not decide what is drawn for: see
`order`, `windows`, `photo`, `augment` (policies), `mixing` and `label_making`.

Axes: N samples, R draws of one sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

# SplitMix64: the increment and the finalizer "variant 13" of D. Stafford (Better Bit Mixing, 2011)
# that G. Steele, D. Lea and C. Flood use in "Fast Splittable Pseudorandom Number Generators", 2014.
_INCREMENT = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_MASK = 0xFFFFFFFFFFFFFFFF


class Operation(IntEnum):
    """What a draw is for; the numbers are part of every result and are never used again."""

    ORDER = 1
    CROP = 2
    FLIP = 3
    RESIZED_CROP = 4
    POLICY = 5
    MIX = 6
    MADE_LABEL = 7
    CLASS_ORDER = 20
    WEIGHTS = 21
    CLASS_ROUND = 22


@dataclass(frozen=True, slots=True)
class Draws:
    """The draws of one epoch under one seed."""

    seed: int
    epoch: int

    def bits(self, samples: Tensor, operation: int, draw: int = 0) -> Tensor:
        """64 hashed bits per sample; `samples` int64 of any shape, on any device, in any order.

        int64 of the same shape and device: all 64 bits are used, so half of them are negative.
        """
        return _mix_tensor(samples * _signed(_INCREMENT) + self.key(operation, draw))

    def uniform(
        self,
        samples: Tensor,
        operation: int,
        draw: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Numbers in [0, 1), float32 (24 random bits) or float64 (53), one per sample."""
        kept = 24 if dtype == torch.float32 else 53
        return _shift(self.bits(samples, operation, draw), 64 - kept).to(dtype) * 2.0**-kept

    def integers(
        self, samples: Tensor, operation: int, low: int, high: int, draw: int = 0
    ) -> Tensor:
        """Integers in [low, high), int64, one per sample; `high - low` is at most 2**31.

        The share of any two values differs by less than (high - low) / 2**32 of itself.
        """
        return _scale(self.bits(samples, operation, draw), high - low) + low

    def table(self, samples: Tensor, operation: int, draws: int) -> Tensor:
        """Draws 0 .. `draws` - 1 of each of N samples: float64 [N, R] in [0, 1)."""
        keys = torch.tensor(
            [self.key(operation, draw) for draw in range(draws)],
            dtype=torch.int64,
            device=samples.device,
        )
        mixed = _mix_tensor((samples * _signed(_INCREMENT))[:, None] + keys)
        return _shift(mixed, 11).to(torch.float64) * 2.0**-53

    def key(self, operation: int, draw: int = 0) -> int:
        """The 64-bit key of a draw, as a signed integer: what is common to all samples."""
        key = 0
        for word in (self.seed, self.epoch, operation, draw):
            key = _mix_integer((key + _INCREMENT) ^ word)
        return _signed(key)


def _mix_integer(value: int) -> int:
    """The finalizer on a Python integer, taken modulo 2**64."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def _mix_tensor(value: Tensor) -> Tensor:
    """The finalizer on an int64 tensor that nobody else holds (it is overwritten)."""
    value ^= _shift(value, 30)
    value *= _signed(_FIRST)
    value ^= _shift(value, 27)
    value *= _signed(_SECOND)
    value ^= _shift(value, 31)
    return value


def _shift(value: Tensor, places: int) -> Tensor:
    """A logical right shift: int64 shifts copy the sign, so the copies are masked away."""
    return (value >> places).bitwise_and_((1 << (64 - places)) - 1)


def _scale(bits: Tensor, span: int) -> Tensor:
    """The upper 32 bits, scaled to [0, span) by a multiplication instead of a division."""
    return (_shift(bits, 32) * span) >> 32


def _signed(value: int) -> int:
    """A 64-bit pattern as the int64 that has the same bits."""
    return value - (1 << 64) if value >> 63 else value
