"""What the models of a trial say of images: those that people labeled, and the raw ones.

A frozen part that several models share sees each image once: its features are kept, and those that
a trial's run has computed are not computed again.

Axes: N images, K classes, D features.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.errors import RunError
from discern.compute.device import usable_cores
from discern.compute.memory import scoring_passes
from discern.compute.world import World
from discern.data.manifest import Manifest
from discern.data.sources import open_source
from discern.training.frozen_features import evaluation_mode
from discern.training.kept_features import FeatureStore, feature_extract
from discern.training.material import FeedSettings, Material
from discern.training.prediction_stage import predict_outputs
from discern.worker.open_model import OpenedModel

_ROWS = 4096  # features that a head sees at a time


class ImageScorer:
    """Logits of whole manifests, of all their images in order: equal bits every time.

    `store`: the features that the runs of the labeling share.
    """

    def __init__(self, workers: int | None, store: FeatureStore) -> None:
        self._workers = usable_cores() if workers is None else workers
        self._store = store

    def logits(self, opened: OpenedModel, manifest: Manifest) -> NDArray[np.float32]:
        """Of every image: float32 [N, K], in full precision. Raises DataError, RunError."""
        material = self._material(opened, manifest)
        size = opened.scored.batch_size
        model = opened.model
        if not model.splits:
            with material.evaluation_feed("all", size) as feed:
                outputs = predict_outputs(model, feed, World())
            return _finite(outputs["logits"][np.argsort(outputs["positions"])], opened)
        extract = feature_extract(model, material, store=self._store)
        features = extract(
            lambda rows: material.evaluation_feed("all", size, rows=rows),
            material.positions("all"),
            1,
        )[0]
        with scoring_passes(), torch.inference_mode(), evaluation_mode(model):
            parts = [
                model.classify(rows).logits.float().cpu().numpy()
                for rows in torch.split(features, _ROWS)
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
