"""What made a model name an image so: its Grad-CAM map, laid over what the network saw.

Owns the order of work and the overlay. Axes: N images, H height, W width, C channels, [h, w] a map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import ConfigError, DataError, ModelError
from discern.base.names import did_you_mean
from discern.data.head_spec import HeadSpec, find_head, main_heads
from discern.data.images import Pixels
from discern.data.pixel_arrays import viewable
from discern.exporting.forward import normalized
from discern.exporting.predictor import ImageLike, Predictor, image_content, named_images
from discern.models.named_heads import packed_logits
from discern.workflows.class_activation import ActivationLayer, activation_maps, find_map_layer

# A pass keeps all activations for its gradient: ten times what prediction takes.
PASS_IMAGES: Final = 16
# Smaller images are enlarged to at least this side, pixel by pixel, so that one can see them.
_SHOWN_SIDE: Final = 224
_OPACITY: Final = 0.6


@dataclass(frozen=True, slots=True)
class Explanation:
    """One image: the class asked about, its probability, and where it was seen.

    `map` float32 [h, w], at least 0, of the layer's own size; `pixels` uint8 [H, W, 3]: what the
    network saw, resized and cropped.
    """

    name: str
    head: str
    class_name: str
    probability: float
    layer: str
    map: NDArray[np.float32]
    pixels: NDArray[np.uint8]

    @property
    def peak(self) -> tuple[float, float]:
        """The strongest place (x, y) in shares of what the network saw, its cell's center."""
        row, column = np.unravel_index(int(self.map.argmax()), self.map.shape)
        height, width = self.map.shape
        return (float(column) + 0.5) / width, (float(row) + 0.5) / height

    @property
    def empty(self) -> bool:
        """True if no place spoke for the class."""
        return not bool(self.map.any())

    def heat(self) -> NDArray[np.float32]:
        """The map on the pixels, float32 [H, W], 1 at its highest; 0 everywhere if it is empty."""
        import torch.nn.functional as F

        small = torch.from_numpy(self.map)[None, None]
        size = self.pixels.shape[:2]
        large = F.interpolate(small, size=size, mode="bilinear", align_corners=False)[0, 0]
        top = float(large.max())
        return (large / top if top > 0 else large).numpy()

    def overlay(self) -> NDArray[np.uint8]:
        """The picture: uint8 [H', W', 3], warm where the class was seen, plain where it was not."""
        from matplotlib import colormaps

        factor = max(1, -(-_SHOWN_SIDE // min(self.pixels.shape[:2])))
        heat = self.heat().repeat(factor, axis=0).repeat(factor, axis=1)
        seen = self.pixels.repeat(factor, axis=0).repeat(factor, axis=1).astype(np.float32)
        warm = colormaps["turbo"](heat)[:, :, :3] * 255
        share = (_OPACITY * heat)[:, :, None]
        return np.asarray(seen * (1 - share) + warm * share + 0.5, np.uint8)


def explain_images(
    predictor: Predictor,
    images: ImageLike | Iterable[ImageLike],
    *,
    class_name: str | None = None,
    head: str | None = None,
    layer: str | None = None,
    on_bad_image: str = "error",
    problems: list[str] | None = None,
) -> Iterator[Explanation]:
    """The explanation of each of `images`, in order; at most 16 are held decoded.

    `class_name`: the class asked about, by default each image's likeliest; `head`: the head, by
    default the first. `layer`: as `find_map_layer`. With `on_bad_image="skip"` unreadable images go
    to `problems`. Raises ConfigError for a class, head or layer that is not there, DataError for an
    unreadable image, ModelError for a network without maps or with an answer that is not finite.
    """
    if on_bad_image not in ("error", "skip"):
        raise ConfigError(
            "no such rule", where="on_bad_image", got=on_bad_image, expected="error, skip"
        )
    asked = _Asked.of(predictor.heads, head, class_name)
    chosen: ActivationLayer | None = None
    for names, batch in _batches(predictor, images, on_bad_image, problems):
        inputs = normalized(batch, predictor.preprocess, predictor.device)
        if chosen is None:
            chosen = find_map_layer(predictor.model, inputs, layer)
        yield from _explain_batch(predictor, chosen, asked, names, batch, inputs)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which logits are asked about: those of `spec`, from `start` on, or the one at `place`."""

    spec: HeadSpec
    start: int
    place: int | None

    @classmethod
    def of(cls, heads: Sequence[HeadSpec], head: str | None, class_name: str | None) -> _Asked:
        spec = main_heads(heads)[0] if head is None else find_head(heads, head, "--head")
        start = sum(one.width for one in heads[: heads.index(spec)])
        if class_name is None:
            return cls(spec, start, None)
        if class_name not in spec.classes:
            raise ConfigError(
                "the model has no such class", where="--class", got=class_name,
                hint=did_you_mean(class_name, list(spec.classes)),
            )  # fmt: skip
        return cls(spec, start, spec.classes.index(class_name))

    def answers(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Class numbers [N] and their probabilities [N], of all heads' logits [N, K]."""
        own = logits[:, self.start : self.start + self.spec.width]
        stated = own.sigmoid() if self.spec.kind == "multi" else own.softmax(1)
        if self.place is None:
            numbers = own.argmax(1)
        else:
            numbers = torch.full((len(own),), self.place, device=own.device)
        return numbers, stated.gather(1, numbers[:, None])[:, 0]


def _batches(
    predictor: Predictor,
    images: ImageLike | Iterable[ImageLike],
    on_bad_image: str,
    problems: list[str] | None,
) -> Iterator[tuple[list[str], list[Pixels]]]:
    names: list[str] = []
    batch: list[Pixels] = []
    for name, image in named_images(images):
        try:
            batch.append(predictor.preprocess.apply(image_content(name, image), name=name))
        except DataError as error:
            if on_bad_image != "skip" or problems is None:
                raise
            problems.append(f"{name}: {error.what}")
            continue
        names.append(name)
        if len(batch) == PASS_IMAGES:
            yield names, batch
            names, batch = [], []
    if batch:
        yield names, batch


def _explain_batch(
    predictor: Predictor,
    layer: ActivationLayer,
    asked: _Asked,
    names: list[str],
    batch: list[Pixels],
    inputs: Tensor,
) -> Iterator[Explanation]:
    with torch.no_grad():
        logits = packed_logits(predictor.model(inputs)).float()
    if not bool(logits.isfinite().all()):
        raise ModelError(
            "the network's answer is not finite, so there is nothing to explain",
            hint="its weights are damaged or were saved after a diverged step",
        )
    numbers, stated = asked.answers(logits)
    maps = activation_maps(predictor.model, layer, inputs, numbers + asked.start).cpu().numpy()
    for row, name in enumerate(names):
        yield Explanation(
            name=name,
            head=asked.spec.name,
            class_name=asked.spec.classes[int(numbers[row])],
            probability=float(stated[row]),
            layer=layer.name,
            map=maps[row],
            pixels=viewable(batch[row]),
        )
