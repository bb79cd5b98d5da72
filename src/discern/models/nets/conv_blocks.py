"""What the classic networks share: a normalized convolution, pooling to features, initial values.

Axes: N images, C channels, H height, W width, D features.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from discern.base.errors import ConfigError


def conv_norm(
    width_in: int,
    width: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = False,
) -> nn.Sequential:
    """Convolution, batch norm and ReLU; `padding` None keeps the size at stride 1."""
    return nn.Sequential(
        nn.Conv2d(
            width_in,
            width,
            kernel,
            stride=stride,
            padding=kernel // 2 if padding is None else padding,
            groups=groups,
            bias=bias,
        ),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def share_dropout(share: float) -> nn.Dropout:
    """Dropout of this share of the values. Raises ConfigError for one outside 0 to under 1."""
    if not 0.0 <= share < 1.0:
        raise ConfigError(
            "dropout leaves out a share of the values",
            where="model argument 'dropout'",
            got=share,
            expected="0 or more, and less than 1",
        )
    return nn.Dropout(share)


def pool_maps(maps: Tensor) -> Tensor:
    """Features [N, D]: the mean of each of the maps [N, D, H, W]."""
    features: Tensor = maps.mean((2, 3))
    return features


def start_convolutions(network: nn.Module, *, normalized: bool = True) -> None:
    """Give every convolution of `network` He's initial values, and zero where it has a bias.

    `normalized`: batch norm follows each, so the scale is free, and fan-out is taken as in ResNet;
    otherwise fan-in keeps the variance of the activations from layer to layer. Source: He et al.,
    Delving deep into rectifiers (2015).
    """
    mode: Literal["fan_in", "fan_out"] = "fan_out" if normalized else "fan_in"
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
