"""The first layers that keep small images whole: a 3x3 convolution at stride 1, and no pooling.

Networks for photographs halve an image twice before their first block; of 28 pixels that leaves 7.
Source of the exchange: He et al., Deep residual learning (2015), section 4.2, and the common
CIFAR forms of the larger networks since.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from discern.models.arithmetic import count_macs

# Sides up to this take the small stem: MNIST's 28 and CIFAR's 32 pixels.
LARGEST_SMALL_SIDE = 32
# On a CPU only up to this many multiply-adds an image: about 1.5 hours an epoch of 50,000 images
# on two cores; resnet18 at 32 pixels has 0.56e9, resnet50 1.3e9, each 16 times its plain form.
CPU_MACS = 0.6e9
_POOLINGS = ("maxpool", "stem.pool", "features.pool0")


def has_small_stem(network: nn.Module) -> bool:
    """Whether the exchange is known for `network`: timm's ResNets of all kinds and DenseNets."""
    return _first_conv(network) is not None and _pooling_name(network) is not None


def exchange_stem(network: nn.Module) -> tuple[str, ...]:
    """Give `network` the small stem, in place; the names of the tensors that are new."""
    name, pooling = _first_conv(network), _pooling_name(network)
    if name is None or pooling is None:
        return ()
    old = network.get_submodule(name)
    if not isinstance(old, nn.Conv2d):
        return ()
    new = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=old.bias is not None).to(
        old.weight.device
    )
    if new.weight.device.type != "meta":
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    _put(network, name, new)
    _put(network, pooling, nn.Identity())
    return tuple(f"{name}.{key}" for key in new.state_dict())


def stem_macs(network: nn.Module, sample: Tensor) -> int:
    """Multiply-adds for one image of `sample` [N, C, H, W] with the small stem; nothing changes."""
    skeleton = copy.deepcopy(network).to("meta")
    exchange_stem(skeleton)
    return count_macs(skeleton, torch.empty_like(sample[:1], device="meta"))


def _first_conv(network: nn.Module) -> str | None:
    record = getattr(network, "pretrained_cfg", None) or {}
    name = record.get("first_conv") if hasattr(record, "get") else None
    if not isinstance(name, str):
        return None
    layer = network.get_submodule(name)
    plain = type(layer) is nn.Conv2d and layer.stride == (2, 2)
    # A padding layer of its own belongs to weights of another framework: left as it is.
    return name if plain and not hasattr(getattr(network, "stem", None), "pad") else None


def _pooling_name(network: nn.Module) -> str | None:
    modules = dict(network.named_modules())
    return next((name for name in _POOLINGS if name in modules), None)


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)
