"""What a review knows of images besides their labels: features, and probabilities out of fold.

Owns where they come from: a network, the pixels, or a finished cross-validation. Which of these it
is, is always told.

Axes: N images of the manifest, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.compute.device import usable_cores
from discern.data.feature_files import FeatureTable, read_feature_table, write_feature_table
from discern.data.images import Preprocess
from discern.data.manifest import Head, Manifest
from discern.data.sources import Source, load_resident
from discern.data.table_files import Table, read_table
from discern.track.run import runs_root
from discern.training.material import FeedSettings, Material
from discern.training.pixel_features import SIDE, pixel_features
from discern.worker.embedding import POOLED, embed_split, model_hash
from discern.worker.open_model import OpenedModel
from discern.worker.out_of_memory import scoring_memory_told
from discern.workflows.fold_tables import PREDICTIONS

Progress = Callable[[int, int], None]

_SHOWN: Final = 5
_BEFORE: Final = "probability/"


@dataclass(frozen=True, slots=True)
class ReviewFeatures:
    """Features float32 [N, D], and what they are, in words."""

    values: NDArray[np.float32]
    words: str


def network_features(
    opened: OpenedModel,
    manifest: Manifest,
    source: Source,
    file: Path,
    *,
    batch_size: int,
    workers: int | None = None,
    amp_dtype: torch.dtype | None = None,
) -> ReviewFeatures:
    """What the head of the network reads, of every image in the order of the manifest.

    Kept in `file`; found there, of the same network, they are not computed again (those of less
    than full precision are). Raises ModelError where they are not finite, naming an image.
    """
    words = f"of {opened.name}"
    if amp_dtype is None and file.is_file():
        table = read_feature_table(file)
        there = set(table.ids.tolist())
        same = table.origin.model_hash == model_hash(opened) and table.origin.layer == POOLED
        if same and there.issuperset(manifest.ids.tolist()):
            values = _rows_of(table, manifest)
            return ReviewFeatures(values, f"{values.shape[1]} features {words}, kept in {file}")
    settings = FeedSettings(
        device=opened.device.torch_device,
        workers=usable_cores() if workers is None else workers,
        seed=0,
        flip=False,
    )
    material = Material(manifest, source, opened.preprocess, settings)
    with scoring_memory_told(opened.name, opened.device, batch_size):
        table, _ = embed_split(opened, material, "all", batch_size, amp_dtype=amp_dtype)
    if amp_dtype is None:
        write_feature_table(file, table)
    return ReviewFeatures(table.features, f"{table.features.shape[1]} features {words}")


def _rows_of(table: FeatureTable, manifest: Manifest) -> NDArray[np.float32]:
    places = {str(name): row for row, name in enumerate(table.ids)}
    rows: NDArray[np.float32] = table.features[[places[name] for name in manifest.ids.tolist()]]
    return rows


def features_of_file(file: str, manifest: Manifest) -> ReviewFeatures:
    """The rows of a feature file that belong to the images, found by id.

    Raises DataError for images that are not in it.
    """
    table = read_feature_table(file)
    there = set(table.ids.tolist())
    unknown = [row for row, name in enumerate(manifest.ids.tolist()) if name not in there]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(manifest)} images have no features",
            where=file,
            got=", ".join(str(manifest.locations.paths[row]) for row in unknown[:_SHOWN]),
            hint="make them anew: discern embed MODEL DATA --out FILE",
        )
    model = f" of {table.origin.model}" if table.origin.model else ""
    words = f"{table.features.shape[1]} features{model} in {file}"
    return ReviewFeatures(_rows_of(table, manifest), words)


def features_of_pixels(
    manifest: Manifest, source: Source, channels: int, depth: int = 8, workers: int | None = None
) -> ReviewFeatures:
    """Edges and colors of the images at 32 x 32, see `pixel_features`."""
    preprocess = Preprocess(
        height=SIDE, width=SIDE, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels,
        interpolation="area", fit="squish", depth=depth,
    )  # fmt: skip
    threads = usable_cores() if workers is None else workers
    rows = np.arange(len(manifest), dtype=np.int64)
    values = pixel_features(load_resident(source, rows, preprocess, threads=threads))
    return ReviewFeatures(values, f"edges and colors of pictures of {SIDE} pixels, no network")


def kfold_folder(name: str, runs: str | None) -> Path:
    """The folder of a cross-validation: a path, or PROJECT/NAME below the runs' folder.

    Raises ConfigError where there are no joined predictions.
    """
    places = [Path(name), runs_root(runs) / name]
    for place in places:
        if (place / f"{PREDICTIONS}.parquet").is_file():
            return place
    raise ConfigError(
        "there is no finished cross-validation",
        where="--kfold",
        got=name,
        expected=f"a folder with {PREDICTIONS}.parquet: the path that `discern kfold` prints",
        hint="discern kfold DATA makes one",
    )


def kfold_probabilities(folder: Path, manifest: Manifest, head: Head) -> NDArray[np.float64]:
    """Probabilities [N, K] of the images by the models that never saw them, found by id.

    Raises DataError for images or classes that the cross-validation did not have, and for
    predictions without the probability of each class.
    """
    file = folder / f"{PREDICTIONS}.parquet"
    table = read_table(file)
    before = _class_columns(table, head.name, file)
    named = {name.removeprefix(before): name for name in table.columns if name.startswith(before)}
    missing = [name for name in head.classes if name not in named]
    if missing:
        raise DataError(
            "the cross-validation did not know all classes", where=file,
            got=", ".join(missing[:_SHOWN]), expected=", ".join(list(named)[:20]),
        )  # fmt: skip
    places = {str(name): row for row, name in enumerate(table.columns["id"])}
    unknown = [row for row, name in enumerate(manifest.ids.tolist()) if name not in places]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(manifest)} images were not in the cross-validation",
            where=file,
            got=", ".join(str(manifest.locations.paths[row]) for row in unknown[:_SHOWN]),
            hint="review the data that it was made on",
        )
    rows = [places[name] for name in manifest.ids.tolist()]
    columns = [np.asarray(table.columns[named[name]], dtype=np.float64) for name in head.classes]
    values = np.stack(columns, axis=1)[rows]
    # A class that only the cross-validation has takes its share along.
    result: NDArray[np.float64] = values / values.sum(axis=1, keepdims=True)
    return result


def _class_columns(table: Table, head: str, file: Path) -> str:
    columns: Mapping[str, Any] = table.columns
    for before in (f"{head}.{_BEFORE}", _BEFORE):
        if any(name.startswith(before) for name in columns):
            return before
    raise DataError(
        "the predictions hold no probability of each class", where=file,
        got=", ".join(list(columns)[:8]), expected=f"columns {_BEFORE}CLASS",
        hint="of very many classes they are not kept: take --model",
    )  # fmt: skip
