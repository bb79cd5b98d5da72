"""A model ready to name what is on images: the same numbers that its evaluation gave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError, ModelError
from discern.compute.memory import scoring_passes
from discern.data.folders import list_images
from discern.data.head_spec import HeadSpec
from discern.data.images import Pixels, Preprocess
from discern.exporting.answer_rules import UNKNOWN, AnswerRules, HeadRules, answered_classes
from discern.exporting.content import single_head
from discern.exporting.forward import forward, normalized
from discern.models.classifier import Classifier

# From this probability on, one of several labels an image counts as there; as training scores it,
# and where the bundle has no thresholds of its own.
LABEL_THRESHOLD = 0.5
ImageLike: TypeAlias = str | Path | bytes | Pixels


@dataclass(frozen=True, slots=True)
class HeadAnswers:
    """What one head says of N images, likeliest class first.

    `top` int64 [N, k]; `probabilities` float32 [N, k]: softmax, or sigmoids of several labels an
    image, at the bundle's temperature. `chosen`: of several labels an image those that reach their
    threshold (0.5 without any), with probabilities. `answered` int64 [N]: the class that the
    bundle's rules answer with, -1 for unknown; None without such rules, then it is the likeliest.
    `stated` float32 [N]: the probability of the answer, of an unknown that of the likeliest class.
    """

    head: HeadSpec
    top: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    chosen: tuple[tuple[tuple[str, float], ...], ...] | None = None
    answered: NDArray[np.int64] | None = None
    stated: NDArray[np.float32] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The answer for each image: a class, or "unknown" where the bundle's rules say so."""
        if self.answered is None:
            return tuple(self.head.classes[number] for number in self.top[:, 0])
        return tuple(UNKNOWN if n < 0 else self.head.classes[n] for n in self.answered)

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """Which images the bundle's rules call unknown: bool [N]; none without such rules."""
        if self.answered is None:
            return np.zeros(len(self.top), dtype=np.bool_)
        return np.less(self.answered, 0)

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """Of several labels an image those over the threshold, likeliest first; else the class."""
        if self.chosen is None:
            return tuple((name,) for name in self.classes)
        return tuple(tuple(name for name, _ in row) for row in self.chosen)

    def answer(self, row: int) -> dict[str, Any]:
        """Image `row` as plain values: class, probability and `top`; or `labels` and `top`.

        Where the bundle's rules may reject, `unknown` says whether they do.
        """
        top = [
            {"class": self.head.classes[number], "probability": float(value)}
            for number, value in zip(self.top[row], self.probabilities[row], strict=True)
        ]
        if self.answered is not None and self.stated is not None:
            number = int(self.answered[row])
            return {
                "class": UNKNOWN if number < 0 else self.head.classes[number],
                "probability": float(self.stated[row]),
                "unknown": number < 0,
                "top": top,
            }
        if self.chosen is None:
            return {**top[0], "top": top}
        labels = [{"class": name, "probability": value} for name, value in self.chosen[row]]
        return {"labels": labels, "top": top}


@dataclass(frozen=True, slots=True)
class Predictions:
    """N images and what each head says of them.

    `names` [N]; `heads`: the answers by head name, without side heads; `features` float32 [N, D];
    `problems`: the images left out, and why. Of a model with one head of one label an image
    `classes`, `top`, `probabilities` and `class_names` are that head's.
    """

    names: tuple[str, ...]
    heads: Mapping[str, HeadAnswers]
    features: NDArray[np.float32]
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def _only(self) -> HeadAnswers:
        head = single_head(tuple(answers.head for answers in self.heads.values()), "predictions")
        return self.heads[head.name]

    @property
    def classes(self) -> tuple[str, ...]:
        """The answer for each image [N], of the only head. Raises ModelError for several."""
        return self._only().classes

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """Which images are called unknown: bool [N]. Raises ModelError as `classes`."""
        return self._only().unknown

    @property
    def top(self) -> NDArray[np.int64]:
        """The k best classes by number, int64 [N, k]. Raises ModelError as `classes`."""
        return self._only().top

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Their probabilities, float32 [N, k]. Raises ModelError as `classes`."""
        return self._only().probabilities

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of all classes. Raises ModelError as `classes`."""
        return self._only().head.classes

    def rows(self) -> list[dict[str, Any]]:
        """One plain record per image: `image` and the answer of the only head.

        One class: class, probability, and `top` with all k; several labels: `labels`, those over
        the threshold, and `top`. Of several heads `heads` has such an answer by each one's name.
        """
        several = len(self.heads) > 1
        rows: list[dict[str, Any]] = []
        for number, name in enumerate(self.names):
            answers = {head: found.answer(number) for head, found in self.heads.items()}
            told = {"heads": answers} if several else next(iter(answers.values()))
            rows.append({"image": name, **told})
        return rows


class Predictor:
    """A network with its preprocessing and heads, on a device.

    `heads`: in the network's order, side heads too, which answer nothing; or the class names of the
    only head. `rules`: how logits become answers, as the bundle has them.
    """

    def __init__(
        self,
        model: Classifier,
        preprocess: Preprocess,
        heads: Sequence[HeadSpec] | Sequence[str],
        *,
        device: torch.device | None = None,
        amp_dtype: torch.dtype | None = None,
        rules: AnswerRules | None = None,
    ) -> None:
        self.rules = rules or AnswerRules()
        self.device = device or torch.device("cpu")
        self.amp_dtype = amp_dtype
        self.model = model.to(self.device).eval()
        self.preprocess = preprocess
        given = [head for head in heads if isinstance(head, HeadSpec)]
        names = tuple(name for name in heads if isinstance(name, str))
        self.heads = tuple(given) or (HeadSpec("label", "single", names),)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of the only head. Raises ModelError for several."""
        return single_head(self.heads, "model").classes

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
        parts: list[_Passed] = []
        batch: list[Pixels] = []
        for name, data in named_images(images):
            try:
                batch.append(self.preprocess.apply(image_content(name, data), name=name))
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
        passed = _Passed(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        return Predictions(
            names=tuple(names),
            heads=self._answers(passed, top_k),
            features=passed.features,
            problems=tuple(problems),
        )

    def _answers(self, passed: _Passed, top_k: int) -> dict[str, HeadAnswers]:
        """The answers of all heads but side heads."""
        found, start = {}, 0
        for head in self.heads:
            own = slice(start, start + head.width)
            start += head.width
            if head.side:
                continue
            rules, stated = self.rules.of(head.name), passed.stated[:, own]
            answers = head_answers(head, stated, top_k, thresholds=rules.thresholds)
            if head.kind == "single":
                answers = _ruled(answers, rules, passed.logits[:, own], stated, passed.features)
            found[head.name] = answers
        return found

    @scoring_passes()
    def _forward(self, batch: list[Pixels]) -> _Passed:
        images = normalized(batch, self.preprocess, self.device)
        logits, features = forward(self.model, images, self.amp_dtype)
        if not bool(logits.isfinite().all()):
            raise ModelError(
                "the network's answer is not finite, so there is no prediction",
                hint="its weights are damaged or were saved after a diverged step",
            )
        widths = [head.width for head in self.heads]
        parts = zip(self.heads, torch.split(logits, widths, 1), strict=True)
        stated = []
        for head, own in parts:
            temperature = self.rules.of(head.name).temperature
            scaled = own if temperature is None else own / temperature
            stated.append(scaled.sigmoid() if head.kind == "multi" else scaled.softmax(1))
        return _Passed(torch.cat(stated, 1).cpu().numpy(), features.cpu().numpy(),
                       logits.cpu().numpy())  # fmt: skip


class _Passed(NamedTuple):
    """What a pass gives of N images; K outputs of all heads side by side."""

    stated: NDArray[np.float32]  # probabilities [N, K]
    features: NDArray[np.float32]  # [N, D]
    logits: NDArray[np.float32]  # [N, K]


def _ruled(
    answers: HeadAnswers,
    rules: HeadRules,
    logits: NDArray[np.float32],
    stated: NDArray[np.float32],
    features: NDArray[np.float32],
) -> HeadAnswers:
    """The answers under the bundle's rules; as they are where no rule rejects."""
    answered = answered_classes(rules, logits, stated, features)
    if answered is None:
        return answers
    shown = np.where(answered < 0, answers.top[:, 0], answered)
    probability = np.take_along_axis(stated, shown[:, None], axis=1)[:, 0]
    return replace(answers, answered=answered, stated=probability)


def head_answers(
    head: HeadSpec,
    stated: NDArray[np.float32],
    top_k: int,
    *,
    thresholds: Sequence[float] | None = None,
) -> HeadAnswers:
    """The answers of one head; `stated` float32 [N, K]: the probability of each class.

    `thresholds`: from which on each of several labels an image counts as there; None: 0.5.
    """
    top = np.argsort(-stated, axis=1, kind="stable")[:, : min(top_k, head.width)].astype(np.int64)
    chosen = None
    if head.kind == "multi":
        order = np.argsort(-stated, axis=1, kind="stable")
        least = np.array(thresholds or (LABEL_THRESHOLD,) * head.width)  # as evaluation compares
        chosen = tuple(
            tuple((head.classes[k], float(values[k])) for k in places if values[k] >= least[k])
            for places, values in zip(order, stated, strict=True)
        )
    return HeadAnswers(head, top, np.take_along_axis(stated, top, axis=1), chosen)


def named_images(images: ImageLike | Iterable[ImageLike]) -> Iterator[tuple[str, ImageLike]]:
    """Each of `images` with its name: its path, or `image 0`, `image 1`, ...; of a folder all."""
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


def image_content(name: str, image: ImageLike) -> bytes | Pixels:
    """A file's bytes, or pixels [H, W, C]. Raises DataError for a file that cannot be read."""
    if isinstance(image, np.ndarray):
        return image[:, :, None] if image.ndim == 2 else image
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"the image cannot be read: {error.strerror}", where=name) from error
