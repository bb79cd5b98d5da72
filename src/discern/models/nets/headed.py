"""What all own networks share: features of an image, and a linear head over them."""

from __future__ import annotations

from torch import Tensor, nn

from discern.base.errors import ModelError


class HeadedNetwork(nn.Module):
    """`features` [N, C, H, W] -> [N, D], then `head`, a linear layer [N, D] -> [N, K]."""

    head: nn.Linear

    def features(self, images: Tensor) -> Tensor:
        """Features [N, D] of `images` [N, C, H, W]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] of `images` [N, C, H, W]."""
        logits: Tensor = self.head(self.features(images))
        return logits


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
