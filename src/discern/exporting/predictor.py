"""A model ready to name what is on images: the same numbers that its evaluation gave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError, ModelError
from discern.data.folders import list_images
from discern.data.images import Pixels, Preprocess
from discern.exporting.forward import forward, normalized
from discern.models.classifier import Classifier

ImageLike: TypeAlias = str | Path | bytes | Pixels


@dataclass(frozen=True, slots=True)
class Predictions:
    """N images, best class first.

    `names` [N]; `classes` [N]: the best class of each; `top` int64 [N, k] and `probabilities`
    float32 [N, k]; `features` float32 [N, D]; `problems`: the images left out, and why.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    top: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    features: NDArray[np.float32]
    class_names: tuple[str, ...]
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def rows(self) -> list[dict[str, Any]]:
        """One plain record per image: image, class, probability, and `top` with all k."""
        rows = []
        for name, numbers, values in zip(self.names, self.top, self.probabilities, strict=True):
            top = [
                {"class": self.class_names[number], "probability": float(value)}
                for number, value in zip(numbers, values, strict=True)
            ]
            rows.append({"image": name, **top[0], "top": top})
        return rows


class Predictor:
    """A network with its preprocessing and class names, on a device."""

    def __init__(
        self,
        model: Classifier,
        preprocess: Preprocess,
        classes: tuple[str, ...],
        *,
        device: torch.device | None = None,
        amp_dtype: torch.dtype | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.amp_dtype = amp_dtype
        self.model = model.to(self.device).eval()
        self.preprocess = preprocess
        self.classes = classes

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        top_k: int = 5,
        batch_size: int = 64,
        on_bad_image: str = "error",
    ) -> Predictions:
        """Name what is on `images`: a path, a folder, bytes, uint8 [H, W, C], or several of these.

        Raises DataError naming an unreadable image, unless `on_bad_image` is "skip": then it is
        left out and listed in `problems`. Raises ModelError when the network's answer is not
        finite. At most `batch_size` images are held decoded.
        """
        if on_bad_image not in ("error", "skip"):
            raise ConfigError(
                "no such rule", where="on_bad_image", got=on_bad_image, expected="error, skip"
            )
        if top_k < 1 or batch_size < 1:
            raise ConfigError(
                "top_k and batch_size are at least 1", got=f"{top_k} and {batch_size}"
            )
        names: list[str] = []
        problems: list[str] = []
        parts: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        batch: list[Pixels] = []
        for name, data in _named(images):
            try:
                batch.append(self.preprocess.apply(_content(name, data), name=name))
            except DataError as error:
                if on_bad_image != "skip":
                    raise
                problems.append(f"{name}: {error.what}")
                continue
            names.append(name)
            if len(batch) == batch_size:
                parts.append(self._forward(batch))
                batch = []
        if batch:
            parts.append(self._forward(batch))
        if not parts:
            raise DataError("there is no image to predict", got="; ".join(problems) or None)
        probabilities = np.concatenate([part[0] for part in parts])
        top = np.argsort(-probabilities, axis=1, kind="stable")[:, : min(top_k, len(self.classes))]
        return Predictions(
            names=tuple(names),
            classes=tuple(self.classes[number] for number in top[:, 0]),
            top=top.astype(np.int64),
            probabilities=np.take_along_axis(probabilities, top, axis=1),
            features=np.concatenate([part[1] for part in parts]),
            class_names=self.classes,
            problems=tuple(problems),
        )

    def _forward(self, batch: list[Pixels]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        images = normalized(batch, self.preprocess, self.device)
        logits, features = forward(self.model, images, self.amp_dtype)
        if not bool(logits.isfinite().all()):
            raise ModelError(
                "the network's answer is not finite, so there is no prediction",
                hint="its weights are damaged or were saved after a diverged step",
            )
        return logits.softmax(1).cpu().numpy(), features.cpu().numpy()


def _named(images: ImageLike | Iterable[ImageLike]) -> Iterator[tuple[str, ImageLike]]:
    if isinstance(images, (str, Path)) and Path(images).is_dir():
        found, _, _ = list_images(Path(images))
        for name in found:
            yield str(Path(images) / name), Path(images) / name
        return
    single = isinstance(images, (str, Path, bytes)) or (
        isinstance(images, np.ndarray) and images.ndim in (2, 3)
    )
    several: Any = [images] if single else images
    for number, image in enumerate(several):
        yield (str(image) if isinstance(image, (str, Path)) else f"image {number}"), image


def _content(name: str, image: ImageLike) -> bytes | Pixels:
    if isinstance(image, np.ndarray):
        return image[:, :, None] if image.ndim == 2 else image
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"the image cannot be read: {error.strerror}", where=name) from error
