"""Side heads: what is made of each image on its way to the network, and the labels that it makes.

Owns the four side tasks by name, their classes, and how a feed applies them: as the last thing that
is done to an image, so that no other change hides what was made. See `label_making` for the
changes themselves. Draws are keyed by (seed, epoch, image): a resumed epoch makes the same labels.

Axes: N samples, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import ConfigError
from discern.data.head_spec import HeadSpec
from discern.data.images import Pixels, Preprocess
from discern.feed.batch import HeadTargets
from discern.feed.draws import Draws
from discern.feed.label_making import (
    BlurLabel,
    FlareLabel,
    LabelTransform,
    RotateLabel,
    class_rotation,
    make_labels,
)

SIDE_HEADS: Final = ("rotation", "class_rotation", "blur", "flare")
_TURNED: Final = tuple(
    f"{degrees} degrees{mirrored}"
    for mirrored in ("", ", mirrored")
    for degrees in (0, 90, 180, 270)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SideLabels:
    """The changes of a feed that train side heads. Built by `side_labels`.

    `of_class`: the head whose classes the joint head `class_rotation` has eight of each; None
    without that head.
    """

    names: tuple[str, ...]
    of_class: str | None = None
    transforms: Mapping[str, LabelTransform] = field(default_factory=dict)

    def change(
        self, pixels: Pixels, draws: Draws, keys: Tensor
    ) -> tuple[Pixels, dict[str, NDArray[np.int64]]]:
        """`pixels` uint8 [N,H,W,C] changed, and a label [N] of each change by its name.

        `keys` int64 [N]: what the draws of each image are keyed by.
        """
        return make_labels(pixels, self.transforms, draws, keys)

    def targets(
        self, given: Mapping[str, Tensor], made: Mapping[str, NDArray[np.int64]]
    ) -> HeadTargets:
        """`given` targets of the main heads, and those of the side heads from what was `made`."""
        targets = HeadTargets(given)
        device = next(iter(given.values())).device
        for name in self.names:
            if name == "class_rotation":
                factors = torch.from_numpy(made["rotation"]).to(device)
                targets[name] = class_rotation(given[str(self.of_class)], factors)
            else:
                targets[name] = torch.from_numpy(made[name]).to(device)
        return targets

    def apply(
        self, pixels: Tensor, targets: Tensor, draws: Draws, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(pixels, targets) of a batch with the side heads' changes and labels.

        `pixels` uint8 [N,H,W,C] on any device: the changes are made on the CPU.
        """
        given: Any = targets
        changed, made = self.change(pixels.cpu().numpy(), draws, keys.cpu())
        moved = torch.from_numpy(changed).to(pixels.device)
        return moved, self.targets(given, made)  # type: ignore[return-value]


def side_labels(
    names: Sequence[str], heads: Sequence[HeadSpec], preprocess: Preprocess
) -> tuple[SideLabels | None, tuple[HeadSpec, ...]]:
    """The changes for the side heads `names`, and those heads; nothing for no names.

    Raises ConfigError for unknown names, images that cannot be changed so (turning needs squares,
    flares and blurs 8 bits), a label column of the same name, and `class_rotation` without exactly
    one head of one label an image.
    """
    if not names:
        return None, ()
    where = "data.side_heads"
    specs = side_head_specs(names, heads)
    turned = {"rotation", "class_rotation"} & set(names)
    if turned and preprocess.height != preprocess.width:
        raise ConfigError(
            "only square images can be turned by right angles and keep their size",
            where=where, got=f"{preprocess.height} x {preprocess.width}",
            hint="give a square image size: --img-size N",
        )  # fmt: skip
    if preprocess.depth != 8:
        raise ConfigError(
            "side heads take images of 8 bits", where=where, got=f"--depth {preprocess.depth}"
        )
    transforms: dict[str, LabelTransform] = {}
    if turned:
        transforms["rotation"] = RotateLabel()
    if "blur" in names:
        transforms["blur"] = BlurLabel()
    if "flare" in names:
        transforms["flare"] = FlareLabel()
    of_class = _one_class_head(heads).name if "class_rotation" in names else None
    return SideLabels(names=tuple(names), of_class=of_class, transforms=transforms), specs


def side_head_specs(names: Sequence[str], heads: Sequence[HeadSpec]) -> tuple[HeadSpec, ...]:
    """The side heads `names` beside the main `heads`. Raises ConfigError as `side_labels` does."""
    clash = [name for name in names if name in {head.name for head in heads}]
    if clash or len(set(names)) < len(names):
        raise ConfigError(
            "two heads have one name", where="data.side_heads", got=", ".join(clash or names)
        )
    whose = _one_class_head(heads) if "class_rotation" in names else None
    return tuple(_spec(name, whose) for name in names)


def _one_class_head(heads: Sequence[HeadSpec]) -> HeadSpec:
    single = [head for head in heads if head.kind == "single"]
    if len(single) != 1:
        raise ConfigError(
            "class_rotation joins the turn with the class, and there is not one class an image",
            where="data.side_heads",
            got=", ".join(f"{head.name} ({head.kind})" for head in heads),
            expected="one label column of one label an image",
        )
    return single[0]


def _spec(name: str, whose: HeadSpec | None) -> HeadSpec:
    if name == "rotation":
        classes = _TURNED
    elif name == "class_rotation":
        own = () if whose is None else whose.classes
        classes = tuple(f"{one}, {turn}" for one in own for turn in _TURNED)
    elif name == "blur":
        blur = BlurLabel()
        sizes = [blur.kernel(factor) for factor in range(1, blur.classes)]
        classes = ("none", *(f"{size} x {size}" for size in sizes))
    elif name == "flare":
        classes = ("none", "flare")
    else:
        raise ConfigError(
            f"there is no side head '{name}'", where="data.side_heads", got=name,
            expected=", ".join(SIDE_HEADS),
        )  # fmt: skip
    return HeadSpec(name, "single", classes, side=True)
