"""An inverted index of faiss: vectors in cells, of which a query looks into the nearest few.

Owns the only import of faiss, the choice of how many cells are looked into, and the trial that
tells whether it may be used at all. Axes: N vectors, D numbers of each, C cells.
"""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.workflows.index.exact_search import search_exact

# Below this exact search is taken without a trial. Source: benchmarks/index_search.py, and the
# study of indexes that it repeats: building an index never pays below some 5,000 rows.
LEAST_ROWS: Final = 20_000
# Of the user's own vectors, asked as queries in the trial.
_TRIAL_QUERIES: Final = 1000
RECALL_GOAL: Final = 0.99
_RECALL_K: Final = 10
# Rows that k-means sees for a cell; faiss warns below 39 and samples above 256.
_ROWS_A_CELL: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """`centers` float32 [C, D], `cell` int32 [N]: the cell of each vector."""

    centers: NDArray[np.float32]
    cell: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was measured on the user's own vectors; rates in queries a second, one by one batch."""

    recall: float
    probes: int
    rate: float
    exact_rate: float

    @property
    def passes(self) -> bool:
        """Whether the approximate search may stand for the exact one, and is faster."""
        return self.recall >= RECALL_GOAL and self.rate > self.exact_rate

    def words(self) -> str:
        """The figures in a line."""
        return (
            f"recall@{_RECALL_K} {self.recall:.4f} looking into {self.probes} cells, "
            f"{self.rate:.0f} queries/s beside {self.exact_rate:.0f} of exact search"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How the index is searched, why, and what a trial of the approximate way measured."""

    approximate: bool
    reason: str
    trial: Trial | None = None


def judge(trial: Trial) -> Choice:
    """Approximate only with the recall that is asked for, and only where it is faster."""
    if trial.passes:
        return Choice(approximate=True, reason=trial.words(), trial=trial)
    return Choice(approximate=False, reason=f"the approximate one has {trial.words()}", trial=trial)


def have_faiss() -> bool:
    """Whether the extra `ann` is installed."""
    return importlib.util.find_spec("faiss") is not None


def make_cells(vectors: NDArray[np.float32]) -> Cells:
    """k-means cells of `vectors`, about the root of N of them; the same ones each time."""
    import faiss

    count = max(1, 2 ** round(float(np.log2(1.6 * np.sqrt(len(vectors))))))
    train = vectors
    if len(vectors) > count * _ROWS_A_CELL:
        chosen = np.random.default_rng(0).choice(len(vectors), count * _ROWS_A_CELL, replace=False)
        train = vectors[np.sort(chosen)]
    means = faiss.Kmeans(vectors.shape[1], count, niter=10, seed=0, spherical=True)
    means.train(np.ascontiguousarray(train))
    centers = np.ascontiguousarray(means.centroids, dtype=np.float32)
    return Cells(centers=centers, cell=nearest_cells(centers, vectors))


def nearest_cells(centers: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.int32]:
    """The cell of each of `vectors`."""
    return search_exact(centers, vectors, 1)[1][:, 0].astype(np.int32)


class CellSearch:
    """The cells ready to be asked; `probes`: how many a query looks into."""

    def __init__(self, vectors: NDArray[np.float32], cells: Cells, probes: int = 1) -> None:
        import faiss

        width = vectors.shape[1]
        self._quantizer = faiss.IndexFlatIP(width)
        self._quantizer.add(cells.centers)
        self._index: Any = faiss.IndexIVFFlat(
            self._quantizer, width, len(cells.centers), faiss.METRIC_INNER_PRODUCT
        )
        self._index.is_trained = True
        # faiss gets bare addresses: these arrays must live until it has copied them.
        rows = np.arange(len(vectors), dtype=np.int64)
        places = cells.cell.astype(np.int64)
        vectors = np.ascontiguousarray(vectors)
        self._index.add_core(
            len(vectors),
            faiss.swig_ptr(vectors),
            faiss.swig_ptr(rows),
            faiss.swig_ptr(places),
        )
        self.cells = len(cells.centers)
        self.probes = probes

    def search(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As `search_exact`, of the cells that are looked into; row -1 where they hold too few."""
        self._index.nprobe = self.probes
        values, rows = self._index.search(np.ascontiguousarray(queries), k)
        return values, rows


def try_cells(vectors: NDArray[np.float32], cells: Cells) -> Trial:
    """The fewest probes with the recall that is asked for, of 1,000 of the vectors themselves.

    A vector is not its own neighbor. Where no number of probes up to half of the cells is enough,
    the last one tried is told.
    """
    count = min(_TRIAL_QUERIES, len(vectors))
    asked = np.random.default_rng(1).choice(len(vectors), count, replace=False).astype(np.int64)
    queries = vectors[asked]
    begin = time.perf_counter()
    _, expected = search_exact(vectors, queries, _RECALL_K + 1)
    exact_rate = count / (time.perf_counter() - begin)
    truth = without_self(expected, asked, _RECALL_K)
    search = CellSearch(vectors, cells)
    trial = Trial(recall=0.0, probes=1, rate=0.0, exact_rate=exact_rate)
    probes = 1
    while probes <= max(1, search.cells // 2):
        search.probes = probes
        begin = time.perf_counter()
        _, found = search.search(queries, _RECALL_K + 1)
        rate = count / (time.perf_counter() - begin)
        given = without_self(found, asked, _RECALL_K)
        hits = (given[:, :, None] == truth[:, None, :]).any(2).mean()
        trial = Trial(recall=float(hits), probes=probes, rate=rate, exact_rate=exact_rate)
        if trial.recall >= RECALL_GOAL or rate < exact_rate:
            break
        probes *= 2
    return trial


def without_self(rows: NDArray[np.int64], asked: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The first `k` of `rows` [M, k + 1] that are not `asked` [M] themselves."""
    keep = rows != asked[:, None]
    order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, 1)
