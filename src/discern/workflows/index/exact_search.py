"""The nearest of all vectors, by every product: blocks of a matrix product, and their best.

Axes: N vectors, M queries, D numbers of each, k neighbors.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Queries at once: 256 rows of 100,000 products are 102 MB. Source: benchmarks/index_search.py.
_QUERIES: Final = 256
# Columns whose largest product stands for them: the k best lie in the k best groups, and a
# maximum is had at the speed of memory, where sorting 100,000 is not.
_GROUP: Final = 64


def search_exact(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(products float32 [M, k], rows int64 [M, k]) of the k largest inner products.

    Best first, the lower row first among equals of those found; k is at most N.
    """
    base, asked = torch.from_numpy(vectors), torch.from_numpy(queries)
    k = min(k, len(vectors))
    values = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    with torch.inference_mode():
        transposed = base.T
        for start in range(0, len(queries), _QUERIES):
            products = asked[start : start + _QUERIES] @ transposed
            top, places = _largest(products, k)
            values[start : start + _QUERIES] = top.numpy()
            rows[start : start + _QUERIES] = places.numpy()
    order = np.lexsort((rows, -values), axis=1)
    return np.take_along_axis(values, order, 1), np.take_along_axis(rows, order, 1)


def _largest(products: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`torch.topk` of each row; of long rows by way of the groups that hold the best."""
    count = products.shape[1]
    groups = count // _GROUP
    if groups < 4 * k:
        return products.topk(k, dim=1)
    whole = products[:, : groups * _GROUP].view(len(products), groups, _GROUP)
    best = whole.amax(dim=2).topk(k, dim=1).indices
    within = whole.gather(1, best[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
    steps = torch.arange(_GROUP)
    places = (best[:, :, None] * _GROUP + steps).flatten(1)
    rest = products[:, groups * _GROUP :]
    if rest.shape[1]:
        tail = torch.arange(groups * _GROUP, count).expand(len(products), -1)
        within, places = torch.cat([within, rest], 1), torch.cat([places, tail], 1)
    top, found = within.topk(k, dim=1)
    return top, places.gather(1, found)
