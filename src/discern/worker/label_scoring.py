"""What the models of a trial say of images: those that people labeled, and the raw ones.

A frozen part that several models share sees each image once: its features are kept.

Axes: N images, K classes, D features.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import RunError
from discern.compute.device import usable_cores
from discern.compute.memory import scoring_passes
from discern.compute.world import World
from discern.data.manifest import Manifest
from discern.data.sources import open_source
from discern.training.frozen_features import evaluation_mode, extract_features
from discern.training.material import FeedSettings, Material
from discern.training.prediction_stage import predict_outputs
from discern.worker.open_model import OpenedModel

_ROWS = 4096  # features that a head sees at a time


class ImageScorer:
    """Logits of whole manifests, always of all their images in order: equal bits every time."""

    def __init__(self, workers: int | None) -> None:
        self._workers = usable_cores() if workers is None else workers
        self._frozen = ""  # what the kept features are of
        self._kept: dict[str, Tensor] = {}

    def logits(self, opened: OpenedModel, manifest: Manifest) -> NDArray[np.float32]:
        """Of every image: float32 [N, K], in full precision. Raises DataError, RunError."""
        material = self._material(opened, manifest)
        size = opened.scored.batch_size
        model = opened.model
        if not model.splits:
            with material.evaluation_feed("all", size) as feed:
                outputs = predict_outputs(model, feed, World())
            return _finite(outputs["logits"][np.argsort(outputs["positions"])], opened)
        frozen = _frozen_part(opened)
        if frozen != self._frozen:
            self._frozen, self._kept = frozen, {}
        key = manifest.hash
        if key not in self._kept:
            with material.evaluation_feed("all", size) as feed:
                self._kept[key] = extract_features(model, feed, 1)[0]
        with scoring_passes(), torch.inference_mode(), evaluation_mode(model):
            parts = [
                model.classify(rows).logits.float().cpu().numpy()
                for rows in torch.split(self._kept[key], _ROWS)
            ]
        return _finite(np.concatenate(parts), opened)

    def _material(self, opened: OpenedModel, manifest: Manifest) -> Material:
        settings = FeedSettings(
            device=opened.device.torch_device, workers=self._workers, seed=0, flip=False
        )
        return Material(manifest, open_source(manifest), opened.preprocess, settings)


def _finite(logits: NDArray[np.float32], opened: OpenedModel) -> NDArray[np.float32]:
    if not np.isfinite(logits).all():
        raise RunError("the model gives values that are not finite", where=opened.name)
    return logits


def _frozen_part(opened: OpenedModel) -> str:
    """A hash of everything in front of the head, and of what is done to an image."""
    digest = hashlib.sha256(repr(opened.preprocess).encode())
    for name, tensor in opened.model.state_dict().items():
        if not opened.model.is_head(name):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
