"""The nearest images to an image: an index over features, asked, checked, added to, taken from.

Owns `Index`. See `index_files` for its folder. Axes: N images, M queries, D features, k neighbors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.base.names import did_you_mean
from discern.data.duplicates import join_pairs
from discern.data.feature_files import FeatureOrigin, FeatureTable, join_feature_tables
from discern.workflows.index.approximate import (
    Cells,
    CellSearch,
    Choice,
    choose_again,
    choose_search,
    nearest_cells,
)
from discern.workflows.index.exact_search import search_exact
from discern.workflows.index.index_files import (
    METRICS,
    IndexParts,
    Metric,
    read_index,
    write_index,
)
from discern.workflows.index.reduction import Reduction, fit_reduction

WAYS: Final = ("auto", "exact", "approximate")
RANKS: Final = (1, 3, 5, 10)
# Cosine of reduced features from which two images count as near. Source:
# benchmarks/near_duplicates.py, changed copies of photos among others of their species: of the
# pairs from 0.9 on 98 % are copies (85 % with 128 principal axes); at 0.95 hardly any is found.
NEAR: Final = 0.9
_NEAR_NEIGHBORS: Final = 20


@dataclass(frozen=True, slots=True)
class Neighbors:
    """What was found: `rows` int64 [M, k] of the index (-1: none), `distances` float32 [M, k]."""

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recall:
    """`by_rank`: the share of queries with their label among the first k; how many asked what."""

    by_rank: dict[int, float]
    queries: int
    unlabeled: int
    own_left_out: int  # queries that are in the index themselves, and were not given themselves


class Index:
    """Reduced features of images and their rows; never changed in place."""

    def __init__(
        self,
        table: FeatureTable,
        vectors: NDArray[np.float32],
        reduction: Reduction,
        *,
        metric: Metric,
        choice: Choice,
        cells: Cells | None = None,
    ) -> None:
        self.table = table  # its features are left out: width 0
        self.vectors = vectors
        self.reduction = reduction
        self.metric = metric
        self.choice = choice
        self.cells = cells
        self._search: CellSearch | None = None
        if choice.approximate and cells is not None and choice.trial is not None:
            self._search = CellSearch(vectors, cells, choice.trial.probes)

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def build(
        cls,
        table: FeatureTable,
        *,
        pca: int | None = None,
        metric: Metric = "l2",
        standardize: bool = True,
        way: str = "auto",
    ) -> Index:
        """The index of `table`: standardized, projected on `pca` axes, each row of length 1.

        `way`: exact, approximate, or auto, which measures. Raises ConfigError, DataError.
        """
        if metric not in METRICS:
            raise ConfigError(
                "no such metric", where="--metric", got=metric, expected=", ".join(METRICS)
            )
        if way not in WAYS:
            raise ConfigError("no such search", where="--search", got=way,
                              expected=", ".join(WAYS))  # fmt: skip
        reduction = fit_reduction(table.features, pca, standardize=standardize)
        vectors = reduction.apply(table.features)
        choice, cells = choose_search(vectors, way)
        return cls(_rows_only(table), vectors, reduction, metric=metric, choice=choice, cells=cells)

    @classmethod
    def open(cls, folder: Path | str) -> Index:
        """The index that `save` wrote. Raises DataError for a damaged one."""
        parts = read_index(Path(folder))
        return cls(
            parts.table,
            parts.vectors,
            parts.reduction,
            metric=parts.metric,
            choice=parts.choice,
            cells=parts.cells,
        )

    def save(self, folder: Path | str) -> None:
        """Write the index as a folder, whole or not at all. Raises RunError, OSError."""
        parts = IndexParts(
            table=self.table,
            vectors=self.vectors,
            reduction=self.reduction,
            metric=self.metric,
            choice=self.choice,
            cells=self.cells,
        )
        write_index(Path(folder), parts)

    @property
    def origin(self) -> FeatureOrigin:
        """Where the features came from."""
        return self.table.origin

    @property
    def explained_variance(self) -> float:
        """The share of the variance of the standardized features that the axes keep."""
        return self.reduction.explained_variance

    def check_origin(self, origin: FeatureOrigin) -> None:
        """Raises DataError unless features of `origin` can be compared with those of the index."""
        mine = self.origin
        hint = f"the index was built with {mine.model}" if mine.model else None
        if mine.classes != origin.classes and mine.model_hash and origin.model_hash:
            raise DataError(
                "the index was built for other classes, or for another order of them",
                got=_class_words(origin),
                expected=_class_words(mine),
                hint=hint,
            )
        for what, expected, got in (
            ("model", mine.model_hash, origin.model_hash),
            ("layer", mine.layer, origin.layer),
        ):
            if expected != got:
                raise DataError(
                    f"the index was built for another {what}",
                    got=got or "unknown",
                    expected=expected or "unknown",
                    hint=hint,
                )

    def search(
        self, features: NDArray[np.float32], k: int = 10, *, leave_out: Sequence[int] | None = None
    ) -> Neighbors:
        """The `k` nearest images to each row of `features` [M, D], nearest first.

        `leave_out` [M]: a row of the index that a query may not get, -1 for none. Raises DataError.
        """
        return self._nearest(self.reduction.apply(features), k, leave_out)

    def search_rows(self, rows: Sequence[int], k: int = 10) -> Neighbors:
        """The `k` nearest others of images of the index. Raises DataError for no such row."""
        for row in rows:
            if not 0 <= row < len(self):
                raise DataError(
                    "the index has no such row", got=row, expected=f"0 to {len(self) - 1}"
                )
        return self._nearest(self.vectors[list(rows)], k, rows)

    def _nearest(
        self, queries: NDArray[np.float32], k: int, leave_out: Sequence[int] | None
    ) -> Neighbors:
        if k < 1:
            raise ConfigError("at least one neighbor is asked for", where="-k", got=k)
        wanted = min(k + (leave_out is not None), len(self))
        if self._search is not None:
            values, rows = self._search.search(queries, wanted)
        else:
            values, rows = search_exact(self.vectors, queries, wanted)
        if leave_out is not None:
            own = rows == np.asarray(leave_out, dtype=np.int64)[:, None]
            order = np.argsort(own, axis=1, kind="stable")[:, : min(k, max(len(self) - 1, 1))]
            values, rows = np.take_along_axis(values, order, 1), np.take_along_axis(rows, order, 1)
            if len(self) == 1:
                rows = np.where(np.take_along_axis(own, order, 1), -1, rows)
        return Neighbors(rows, self._distances(values))

    def _distances(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of vectors of length 1: Euclidean, 1 - cosine, or the angle in radians."""
        bounded = np.clip(cosines, -1.0, 1.0)
        if self.metric == "cosine":
            distances = 1.0 - bounded
        elif self.metric == "angular":
            distances = np.arccos(bounded)
        else:
            distances = np.sqrt(2.0 - 2.0 * bounded)
        return np.asarray(distances, dtype=np.float32)

    def row_of(self, text: str) -> int:
        """The row that an id, a path or a number names. Raises DataError."""
        for column in (self.table.ids, self.table.paths):
            places = np.flatnonzero(column == text)
            if len(places):
                return int(places[0])
        if text.isascii() and text.isdigit() and int(text) < len(self):
            return int(text)
        raise DataError(
            "the index has no such image",
            got=text,
            expected=f"an id, a path, or a row of 0 to {len(self) - 1}",
            hint=did_you_mean(text, self.table.paths.tolist()[:10_000]),
        )

    def recall(
        self, table: FeatureTable, ranks: Sequence[int] = RANKS, *, head: str | None = None
    ) -> Recall:
        """The share of the labeled rows of `table` with their label among the k nearest.

        Labels go by class name. A query that is in the index by its id does not find itself.
        Raises DataError for features of another model, and for none with a label.
        """
        if not ranks or min(ranks) < 1:
            raise ConfigError("a rank is at least 1", where="-k", got=list(ranks))
        self.check_origin(table.origin)
        mine, its = self.table.head(head), table.head(head)
        names = {name: code for code, name in enumerate(mine.classes)}
        codes = np.array([names.get(name, -2) for name in its.classes], dtype=np.int64)
        labeled = np.flatnonzero(its.targets >= 0)
        if not len(labeled):
            raise DataError("no query has a label", got=f"{len(table)} queries")
        wanted = codes[its.targets[labeled]]
        own = self._own_rows(table.ids[labeled])
        found = self.search(table.features[labeled], max(ranks), leave_out=own.tolist())
        right = (mine.targets[found.rows] == wanted[:, None]) & (found.rows >= 0)
        shares = {rank: float(right[:, :rank].any(axis=1).mean()) for rank in ranks}
        return Recall(shares, len(labeled), len(table) - len(labeled), int((own >= 0).sum()))

    def _own_rows(self, ids: NDArray[np.str_]) -> NDArray[np.int64]:
        if not self.origin.model_hash:  # rows of bare arrays are called by numbers: no identity
            return np.full(len(ids), -1, dtype=np.int64)
        places = {name: row for row, name in enumerate(self.table.ids.tolist())}
        return np.array([places.get(name, -1) for name in ids.tolist()], dtype=np.int64)

    def add(self, table: FeatureTable) -> Index:
        """The index with the rows of `table`, too: the steps stay as they were fitted.

        Recall and speed of an approximate search are measured again, and for the first time where
        the index gets large enough for one (see `choose_again`). Raises DataError for features
        of another model, and for images that are there already.
        """
        self.check_origin(table.origin)
        twice = np.isin(table.ids, self.table.ids)
        if self.origin.model_hash and twice.any():
            first = int(np.flatnonzero(twice)[0])
            raise DataError(
                "images are in the index already",
                where=table.paths[first],
                got=f"{int(twice.sum())} of {len(table)}",
                hint="remove them first, or add the others only",
            )
        fresh = self.reduction.apply(table.features)
        rows = join_feature_tables([self.table, _rows_only(table)])
        vectors = np.concatenate([self.vectors, fresh])
        cells = self.cells
        if cells is not None:
            cell = np.concatenate([cells.cell, nearest_cells(cells.centers, fresh)])
            cells = replace(cells, cell=cell)
        return self._with(rows, vectors, cells)

    def remove(self, names: Iterable[str]) -> Index:
        """The index without the images that ids, paths or numbers name. Raises DataError."""
        out = np.array(sorted({self.row_of(name) for name in names}), dtype=np.int64)
        keep = np.setdiff1d(np.arange(len(self)), out)
        if not len(keep):
            raise DataError("nothing would be left in the index", got=f"{len(out)} of {len(self)}")
        cells = self.cells
        if cells is not None:
            cells = replace(cells, cell=cells.cell[keep])
        return self._with(self.table.select(keep), self.vectors[keep], cells)

    def _with(
        self, table: FeatureTable, vectors: NDArray[np.float32], cells: Cells | None
    ) -> Index:
        choice, cells = choose_again(vectors, cells, self.choice)
        return Index(table, vectors, self.reduction, metric=self.metric, choice=choice, cells=cells)

    def near_duplicates(self, similarity: float = NEAR) -> list[list[int]]:
        """Groups of rows that are joined by cosines of at least `similarity`, largest first.

        Of the 20 nearest of each image. Raises ConfigError for a similarity outside 0 to 1.
        """
        if not 0 < similarity <= 1:
            raise ConfigError("the similarity is out of range", got=similarity,
                              where="--similarity", expected="0 < s <= 1")  # fmt: skip
        found, cosines = self._all_pairs(_NEAR_NEIGHBORS)
        near = (cosines >= similarity - 1e-6) & (found >= 0)
        first, place = np.nonzero(near)
        second = found[first, place]
        pairs = np.unique(np.sort(np.stack([first, second], axis=1), axis=1), axis=0)
        groups = [group.tolist() for group in join_pairs(pairs)] if len(pairs) else []
        return sorted(groups, key=lambda rows: (-len(rows), rows))

    def outliers(self, count: int = 20, neighbors: int = 10) -> list[tuple[int, float]]:
        """The rows farthest from their nearest others: (row, mean distance), farthest first."""
        found, cosines = self._all_pairs(neighbors)
        distances = np.where(found >= 0, self._distances(cosines), np.nan)
        means = np.nanmean(distances, axis=1)
        order = np.argsort(-means, kind="stable")[:count]
        return [(int(row), float(means[row])) for row in order]

    def _all_pairs(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(rows, cosines) [N, k] of the nearest others of every image, exact."""
        wanted = min(k + 1, len(self))
        values, rows = search_exact(self.vectors, self.vectors, wanted)
        own = rows == np.arange(len(self))[:, None]
        # Where an image has so many copies that it does not find itself, its last is left out.
        own[~own.any(axis=1), -1] = True
        order = np.argsort(own, axis=1, kind="stable")[:, : wanted - 1]
        return np.take_along_axis(rows, order, 1), np.take_along_axis(values, order, 1)


def _rows_only(table: FeatureTable) -> FeatureTable:
    return replace(table, features=np.empty((len(table), 0), dtype=np.float32))


def _class_words(origin: FeatureOrigin) -> str:
    return "; ".join(", ".join(names[:8]) for names in origin.classes.values()) or "none"
