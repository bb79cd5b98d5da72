"""A perceptron with two hidden layers, the smallest thing that learns digits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from discern.base.errors import ConfigError
from discern.models.nets.headed import HeadedNetwork


class Mlp(HeadedNetwork):
    """Flattened pixels through `hidden` ReLU layers; D = the last hidden width."""

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: tuple[int, int],
        hidden: Sequence[int] = (128, 64),
    ) -> None:
        super().__init__()
        if not hidden or any(width < 1 for width in hidden):
            raise ConfigError(
                "'mlp' needs at least one hidden layer of at least one unit",
                where="model argument 'hidden'",
                got=hidden,
                expected="widths such as [128, 64]",
            )
        layers: list[nn.Module] = [nn.Flatten()]
        width = channels * image_size[0] * image_size[1]
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU()]
            width = units
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Features [N, D] of `images` [N, C, H, W]."""
        features: Tensor = self.body(images)
        return features


def mlp(
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
    hidden: Sequence[int] = (128, 64),
) -> Mlp:
    """Widths 128-64-classes with ReLU: 109,386 parameters for 28 x 28 grey images and 10 classes.

    Source: the mlp of MXNet's image-classification examples.
    """
    return Mlp(num_classes, channels, image_size, hidden)
