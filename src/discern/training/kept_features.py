"""Features kept on disk for the runs of one group, which share a frozen part and images.

Owns the files `<folder>/<key>/<number>.safetensors`: the features of one extraction, with the ids
of its images. The key stands for all that is done to an image before the head, so that a change of
it finds nothing; images are known by the hash of their bytes. What one run has computed the next
ones read, bit for bit.

Axes: V views (the image, and its mirror image if there is one), N images, D features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from discern.base.errors import RunError
from discern.base.files import write_bytes
from discern.compute.device import autocast
from discern.data.images import Preprocess
from discern.feed.features import Extract, OpenFeed
from discern.models.classifier import Classifier
from discern.training.frozen_features import evaluation_mode, extract_features, trial_images
from discern.training.material import Material

FORMAT: Final = "discern.kept-features"
VERSION: Final = "1"
_FEATURES: Final = "features"


@dataclass(frozen=True, slots=True)
class _Part:
    """The content of one file: features [V, N, D] of the images `ids` [N]."""

    ids: list[str]
    features: Tensor


class FeatureStore:
    """The features in one folder, for one process at a time.

    One that begins no key writes only under those that are there: of others it keeps the latest in
    memory. So a frozen part that only one run has leaves nothing on the disk.
    """

    def __init__(self, folder: Path, *, begins: bool = True) -> None:
        self._folder = folder
        self._begins = begins
        self._read: dict[Path, _Part] = {}
        self._unwritten: tuple[str, list[_Part]] = ("", [])

    def features(
        self,
        key: str,
        ids: Sequence[str],
        views: int,
        compute: Callable[[NDArray[np.int64]], Tensor],
    ) -> Tensor:
        """Features [V, N, D] of the images `ids` under `key`, on the CPU.

        `compute` gives those of the rows of `ids` that are not kept, [V, n, D]; they are kept from
        then on. Raises RunError for a damaged file.
        """
        missing = self._missing(key, ids, views)
        if len(missing):
            features = compute(missing).detach().cpu().contiguous()
            self._keep(key, _Part([ids[row] for row in missing], features))
        result: Tensor | None = None
        places = {name: row for row, name in enumerate(ids)}
        for part in reversed(self._parts(key, views)):  # of an image kept twice, the first counts
            pairs = [(row, places[name]) for row, name in enumerate(part.ids) if name in places]
            if result is None:
                shape = (views, len(ids), part.features.shape[2])
                result = torch.empty(shape, dtype=part.features.dtype)
            if pairs:
                from_rows, to_rows = torch.tensor(pairs).T
                result[:, to_rows] = part.features[:views, from_rows]
        return compute(missing) if result is None else result  # of no image at all

    def _missing(self, key: str, ids: Sequence[str], views: int) -> NDArray[np.int64]:
        known = {name for part in self._parts(key, views) for name in part.ids}
        return np.array([row for row, name in enumerate(ids) if name not in known], dtype=np.int64)

    def _parts(self, key: str, views: int) -> list[_Part]:
        """The files under `key` that have so many views, in the order they were written in."""
        for path in sorted((self._folder / key).glob("*.safetensors")):
            if path not in self._read:
                self._read[path] = _read_part(path)
        parts = [part for path, part in self._read.items() if path.parent.name == key]
        parts += self._unwritten[1] if self._unwritten[0] == key else []
        return [part for part in parts if len(part.features) >= views]

    def _keep(self, key: str, part: _Part) -> None:
        folder = self._folder / key
        if not self._begins and not folder.is_dir():
            before = self._unwritten[1] if self._unwritten[0] == key else []
            self._unwritten = (key, [*before, part])
            return
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("*.safetensors")))
        about = {
            "format": FORMAT,
            "version": VERSION,
            "ids": json.dumps(part.ids),
            "sha256": _hash(part.features),
        }
        content = safetensors.torch.save({_FEATURES: part.features}, metadata=about)
        write_bytes(folder / f"{number:06d}.safetensors", content)


def feature_extract(
    model: Classifier,
    material: Material,
    *,
    amp_dtype: torch.dtype | None = None,
    store: FeatureStore | None = None,
) -> Extract:
    """How images of `material` become features: by the model as it is when they are wanted.

    Those that the `store` has of them are taken from it.
    """

    def extract(open_feed: OpenFeed, positions: NDArray[np.int64], views: int) -> Tensor:
        def computed(rows: NDArray[np.int64]) -> Tensor:
            with open_feed(rows) as images:
                return extract_features(model, images, views, amp_dtype=amp_dtype)

        if store is None:
            return computed(np.arange(len(positions)))
        device = material.settings.device
        key = frozen_key(model, material.preprocess, device, amp_dtype)
        ids = material.manifest.ids[positions].tolist()
        return store.features(key, ids, views, computed).to(device)

    return extract


def frozen_key(
    model: Classifier,
    preprocess: Preprocess,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
) -> str:
    """A hash of everything that makes features of an image.

    The weights before the head, the preprocessing, precision and device, torch's version, and what
    the network gives for two images of noise: other code, threads or kernels that change a bit of
    that make another key.
    """
    made = {name: str(value) for name, value in asdict(preprocess).items()}
    where = [device.type, str(amp_dtype), torch.__version__, str(torch.get_num_threads())]
    digest = hashlib.sha256(json.dumps([made, where], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not model.is_head(name):
            digest.update(f"{name} {tuple(tensor.shape)} {_hash(tensor)}\n".encode())
    sample = trial_images((preprocess.channels, preprocess.height, preprocess.width), device)
    with evaluation_mode(model), torch.no_grad(), autocast(device, amp_dtype):
        digest.update(_hash(model.embed(sample)).encode())
    return digest.hexdigest()[:32]


def _hash(tensor: Tensor) -> str:
    array = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{tensor.dtype} {hashlib.sha256(array.tobytes()).hexdigest()}"


def _read_part(path: Path) -> _Part:
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            features = file.get_tensor(_FEATURES)
        ids = json.loads(about.get("ids", "null"))
        whole = about.get("sha256") == _hash(features) and len(ids) == features.shape[1]
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    if not whole or (about.get("format"), about.get("version")) != (FORMAT, VERSION):
        raise _damaged(path, "its content does not fit its record")
    return _Part(ids, features)


def _damaged(path: Path, why: str) -> RunError:
    return RunError(
        "kept features cannot be read",
        where=path,
        got=why,
        hint=f"remove {path.parent}: they are computed again",
    )
