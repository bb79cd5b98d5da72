"""Sample images with expected logits inside a bundle. Owns the folder `golden/`.

A reader that replays them knows that decoding, resizing, normalization, weights and network still
give what they gave when the bundle was written.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from discern.base.errors import ModelError
from discern.base.files import hash_bytes
from discern.data.images import Pixels, Preprocess, read_header
from discern.exporting.content import GoldenImage
from discern.exporting.forward import forward, normalized

FOLDER: Final = "golden"
LIST: Final = "golden.json"
LOGITS: Final = "expected.safetensors"
ARRAY_SUFFIX: Final = ".npy"
VERSION: Final = 1
# Float32 sums in another order (threads, vector width, CPU model) move logits of the networks used
# here by up to about 1e-5; a wrong resize, mean or weight moves them by 1e-2 and more.
# For logits below 1 the gap shrinks with them.
LARGEST_GAP: Final = 1e-3


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """What a replay found.

    max_gap: largest absolute difference of any logit (NaN counts as failed). top1_agreement:
    fraction of images with the same best class. pixels_equal: images whose decoded and fitted
    pixels are the same bytes as when written: when they are not, the decoder differs. allowed:
    the largest gap that float32 sums in another order explain.
    """

    count: int
    max_gap: float
    top1_agreement: float
    pixels_equal: int
    allowed: float = LARGEST_GAP

    @property
    def ok(self) -> bool:
        """Whether every logit is within `allowed` of what the bundle promises."""
        return self.max_gap <= self.allowed

    def record(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {
            "count": self.count,
            "max_gap": self.max_gap if np.isfinite(self.max_gap) else None,
            "largest_gap_allowed": self.allowed,
            "top1_agreement": self.top1_agreement,
            "pixels_equal": self.pixels_equal,
            "ok": self.ok,
        }


def write_golden(
    bundle: Path, images: Sequence[GoldenImage], model: nn.Module, preprocess: Preprocess
) -> None:
    """Write `images` (original bytes, PNG or .npy for arrays) and the logits of `model` for them.

    `model` must be on the CPU in float32 and eval mode, as a replay is.
    """
    from safetensors.numpy import save_file

    folder = bundle / FOLDER
    folder.mkdir()
    encoded = [_encode(image) for image in images]
    pixels = [preprocess.apply(_stored(data, suffix)) for data, suffix in encoded]
    logits = _logits(model, preprocess, pixels)
    if not np.isfinite(logits).all():
        raise ModelError(
            "The network gives values that are not finite, so no bundle is written",
            where="golden images",
            hint="use an earlier checkpoint",
        )
    rows = []
    for number, (image, (data, suffix), fitted) in enumerate(
        zip(images, encoded, pixels, strict=True)
    ):
        file = f"{number:02d}{suffix}"
        (folder / file).write_bytes(data)
        rows.append(
            {"file": file, "name": image.name, "pixels_sha256": hash_bytes(fitted.tobytes())}
        )
    save_file({"logits": logits}, folder / LOGITS)
    text = json.dumps({"version": VERSION, "images": rows}, indent=2, ensure_ascii=False)
    (folder / LIST).write_text(text + "\n", encoding="utf-8")


def replay(bundle: Path, model: nn.Module, preprocess: Preprocess) -> GoldenResult:
    """Run the golden images of `bundle` through `model` (CPU, float32, eval mode) and compare.

    Raises ModelError when the golden folder cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = bundle / FOLDER
    try:
        rows = json.loads((folder / LIST).read_text(encoding="utf-8"))["images"]
        expected = load_file(folder / LOGITS)["logits"]
        files = [folder / row["file"] for row in rows]
        pixels = [preprocess.apply(_stored(file.read_bytes(), file.suffix)) for file in files]
        hashes = [row["pixels_sha256"] for row in rows]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            "The golden images of the bundle cannot be read", where=folder, got=error
        ) from error
    if not rows or len(rows) != len(expected):
        raise ModelError(
            "The golden images and their logits do not fit together",
            where=folder,
            got=f"{len(rows)} images, {len(expected)} rows of logits",
        )
    logits = _logits(model, preprocess, pixels)
    if logits.shape != expected.shape:
        raise ModelError(
            "The network answers with another number of classes than the bundle promises",
            where=folder,
            got=logits.shape[1],
            expected=expected.shape[1],
        )
    same = _same_answers(logits, expected, getattr(model, "widths", None)).mean()
    return GoldenResult(
        count=len(rows),
        max_gap=float(np.abs(logits - expected).max()),
        top1_agreement=float(same),
        pixels_equal=sum(
            hash_bytes(fitted.tobytes()) == wanted
            for fitted, wanted in zip(pixels, hashes, strict=True)
        ),
        allowed=LARGEST_GAP * _scale(expected),
    )


def _same_answers(
    logits: NDArray[np.float32], expected: NDArray[np.float32], widths: Mapping[str, int] | None
) -> NDArray[np.bool_]:
    """Which images have the same likeliest class, of several heads in each: bool [N]."""
    borders = np.cumsum(list((widths or {}).values()), dtype=np.int64)[:-1].tolist()
    pairs = zip(np.split(logits, borders, axis=1), np.split(expected, borders, axis=1), strict=True)
    same = [own.argmax(axis=1) == wanted.argmax(axis=1) for own, wanted in pairs]
    return np.asarray(np.all(same, axis=0))


def _scale(logits: NDArray[np.float32]) -> float:
    """The largest size of a logit, within 0.01 to 1: small logits are held to a smaller gap."""
    return float(np.clip(np.abs(logits).max(), 0.01, 1.0))


def _logits(
    model: nn.Module, preprocess: Preprocess, pixels: Sequence[Pixels]
) -> NDArray[np.float32]:
    batch = normalized(pixels, preprocess, torch.device("cpu"))
    logits: NDArray[np.float32] = forward(model, batch)[0].numpy()
    return logits


def _encode(golden: GoldenImage) -> tuple[bytes, str]:
    """The bytes to store and the file suffix that fits them."""
    from PIL import Image

    if isinstance(golden.image, bytes):
        form = read_header(golden.image).format.lower()
        suffix = {"jpeg": ".jpg"}.get(form, f".{form}")
        return golden.image, suffix if suffix[1:].isalnum() else ".image"
    stream = io.BytesIO()
    if golden.image.dtype != np.uint8 or golden.image.shape[-1] not in (1, 3):
        # A PNG has neither five channels nor, from Pillow, 16-bit color.
        np.lib.format.write_array(stream, np.ascontiguousarray(golden.image), version=(1, 0))
        return stream.getvalue(), ARRAY_SUFFIX
    pixels = golden.image[:, :, 0] if golden.image.shape[-1] == 1 else golden.image
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format="PNG")
    return stream.getvalue(), ".png"


def _stored(data: bytes, suffix: str) -> bytes | Pixels:
    """What `preprocess` takes of a stored file: an image's bytes, or the pixels of a .npy.

    Raises ValueError for a .npy whose header is not that of [H, W, C] pixels of just its length.
    """
    if suffix != ARRAY_SUFFIX:
        return data
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("a golden array is not in version 1.0 of the .npy format")
    shape, by_columns, kind = np.lib.format.read_array_header_1_0(stream)
    rest = data[stream.tell() :]
    sound = kind in (np.dtype("u1"), np.dtype("<u2")) and len(shape) == 3 and not by_columns
    if not sound or math.prod(shape) * kind.itemsize != len(rest):
        raise ValueError(f"a golden array is not one of pixels: {kind} {list(shape)}")
    pixels: Pixels = np.frombuffer(rest, kind).reshape(shape)
    return pixels
