"""Scoring an opened model on the images of a request: batch size, precision and threads decided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from discern.base.errors import ModelError
from discern.compute.device import usable_cores
from discern.config.request import Request
from discern.data.images import Preprocess
from discern.data.manifest import Manifest
from discern.data.sources import Source, open_source
from discern.training.evaluate import Table, evaluate_heads
from discern.training.material import FeedSettings, Material
from discern.training.tag_scores import TagTable
from discern.worker.open_model import OpenedModel
from discern.worker.out_of_memory import scoring_memory_told
from discern.worker.request_values import pair_value, scoring_precision
from discern.worker.tempered_model import tempered

DEFAULT_BATCH = 64  # the flag's own default


@dataclass(frozen=True, slots=True)
class Scoring:
    """A model and how it is asked. `images`: per pass; `workers`: decoding threads."""

    opened: OpenedModel
    images: int
    workers: int
    amp_dtype: torch.dtype | None = None

    @classmethod
    def of(cls, request: Request, opened: OpenedModel) -> Scoring:
        """As the request asks, else as a run scored its model."""
        workers = pair_value(request, "data.workers")
        return cls(
            opened,
            _batch_size(request, opened),
            usable_cores() if workers is None else workers,
            scoring_precision(request),
        )

    def material(
        self,
        manifest: Manifest,
        *,
        source: Source | None = None,
        preprocess: Preprocess | None = None,
        most: int | None = None,
    ) -> Material:
        """The images of `manifest` for the model; at most `most` of a split, evenly spread.

        `source` and `preprocess`: others than the manifest's and the model's own.
        """
        settings = FeedSettings(
            device=self.opened.device.torch_device,
            workers=self.workers,
            seed=0,
            flip=False,
            scored_images=most,
        )
        return Material(
            manifest,
            open_source(manifest) if source is None else source,
            preprocess or self.opened.preprocess,
            settings,
        )

    def tables(
        self,
        material: Material,
        split: str,
        *,
        model: nn.Module | None = None,
        keep_features: bool = False,
        raw: bool = False,
    ) -> dict[str, Table]:
        """What the model says of every image of a split, by head of the manifest.

        At the bundle's temperatures, unless `raw`, and of several labels at its thresholds;
        `model`: another one than the opened. Raises ModelError for answers that are not finite.
        """
        opened, heads = self.opened, [head.spec for head in material.manifest.heads]
        asked = model or opened.model
        if not raw:
            asked = tempered(asked, opened.heads, opened.rules.temperatures)
        told = scoring_memory_told(opened.name, opened.device, self.images)
        with told, material.evaluation_feed(split, self.images) as feed:
            tables = evaluate_heads(
                asked,
                feed,
                heads=heads,
                device=opened.device.torch_device,
                amp_dtype=self.amp_dtype,
                keep_features=keep_features,
            )
        check_finite(tables.values(), opened.name)
        return {name: self._at_thresholds(name, table) for name, table in tables.items()}

    def _at_thresholds(self, head: str, table: Table) -> Table:
        least = self.opened.rules.of(head).thresholds
        if not isinstance(table, TagTable) or least is None:
            return table
        return replace(table, thresholds=least)


def check_finite(tables: Iterable[Table], name: str) -> None:
    """Raises ModelError where a labeled image has a loss that is not finite."""
    for table in tables:
        if not np.isfinite(table.losses[table.labeled]).all():
            raise ModelError("the model gives values that are not finite", where=name)


def _batch_size(request: Request, opened: OpenedModel) -> int:
    """Images per pass: as asked, else as a run scored them, for sums depend on it in the last bit.

    The flag's default is not told from the same number given.
    """
    asked = int(request.arguments.get("batch_size") or DEFAULT_BATCH)
    return opened.scored.batch_size if asked == DEFAULT_BATCH else asked
