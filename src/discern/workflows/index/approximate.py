"""An inverted index of faiss: vectors in cells, of which a query looks into the nearest few.

Owns the only import of faiss, the choice of how many cells are looked into, and the trial that
tells whether it may be used at all. Axes: N vectors, D numbers of each, C cells.
"""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError
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
_ASKED: Final = "asked for"
NOT_HERE: Final = "faiss is not installed here: discern[ann]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """`centers` float32 [C, D], `cell` int32 [N]: the cell of each vector."""

    centers: NDArray[np.float32]
    cell: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was measured on the user's own vectors; rates in queries a second, one by one batch.

    `images`: of how many, 0 in indexes that were written before this was kept.
    """

    recall: float
    probes: int
    rate: float
    exact_rate: float
    images: int = 0

    @property
    def passes(self) -> bool:
        """Whether the approximate search may stand for the exact one, and is faster."""
        return self.recall >= RECALL_GOAL and self.rate > self.exact_rate

    def words(self) -> str:
        """The figures in a line."""
        return (
            f"recall@{_RECALL_K} {self.recall:.4f} looking into {self.probes} cells, "
            f"{self.rate:.0f} queries/s beside {self.exact_rate:.0f} of exact search"
            + (f", tried on {self.images} images" if self.images else "")
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


def choose_search(vectors: NDArray[np.float32], way: str) -> tuple[Choice, Cells | None]:
    """How to search `vectors`, measured on themselves where it could matter.

    Raises ConfigError where the approximate way is demanded without faiss.
    """
    if way == "exact":
        return Choice(approximate=False, reason=_ASKED), None
    if way == "approximate" and not have_faiss():
        raise ConfigError(
            "approximate search needs faiss",
            where="--search",
            got=way,
            hint="pip install 'discern[ann]', or take --search exact",
        )
    if len(vectors) < LEAST_ROWS and way == "auto":
        return Choice(approximate=False, reason=f"fewer than {LEAST_ROWS} images"), None
    if not have_faiss():
        return Choice(approximate=False, reason="faiss is not installed: discern[ann]"), None
    cells = make_cells(vectors)
    choice = judge(try_cells(vectors, cells))
    return choice, cells if choice.approximate else None


def choose_again(
    vectors: NDArray[np.float32], cells: Cells | None, before: Choice
) -> tuple[Choice, Cells | None]:
    """How to search `vectors` after a change of the index, searched as `before` says until now.

    Cells that there are stay, and are measured again. Else all is as in `choose_search`; a trial
    that spoke for exact search stands until there are twice as many images as it saw.
    """
    if cells is not None:
        if not have_faiss():
            return Choice(approximate=False, reason=NOT_HERE, trial=before.trial), cells
        return judge(try_cells(vectors, cells)), cells
    stands = before.trial is not None and len(vectors) < 2 * before.trial.images
    if before.reason == _ASKED or stands:
        return before, None
    return choose_search(vectors, "auto")


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
    trial = Trial(recall=0.0, probes=1, rate=0.0, exact_rate=exact_rate, images=len(vectors))
    probes = 1
    while probes <= max(1, search.cells // 2):
        search.probes = probes
        begin = time.perf_counter()
        _, found = search.search(queries, _RECALL_K + 1)
        rate = count / (time.perf_counter() - begin)
        given = without_self(found, asked, _RECALL_K)
        hits = (given[:, :, None] == truth[:, None, :]).any(2).mean()
        trial = replace(trial, recall=float(hits), probes=probes, rate=rate)
        if trial.recall >= RECALL_GOAL or rate < exact_rate:
            break
        probes *= 2
    return trial


def without_self(rows: NDArray[np.int64], asked: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The first `k` of `rows` [M, k + 1] that are not `asked` [M] themselves."""
    keep = rows != asked[:, None]
    order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, 1)
