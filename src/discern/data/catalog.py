"""Built-in data sets (interim: digits and idx files)."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BUILT_IN = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100")


@dataclass(frozen=True)
class CatalogData:
    name: str
    classes: tuple[str, ...]
    pixels: dict[str, NDArray[np.uint8]]
    targets: dict[str, NDArray[np.int64]]
    files: tuple[Path, ...]
    layout: str


def read_catalog(
    name: str, root: str | None, progress: Callable[[int, int], None] | None = None
) -> CatalogData:
    if name == "digits":
        from sklearn.datasets import load_digits

        d = load_digits()
        px = np.rint(d.images * 255 / 16).astype(np.uint8)[..., None]
        return CatalogData(
            name,
            tuple(map(str, range(10))),
            {"all": px},
            {"all": d.target.astype(np.int64)},
            (),
            "built-in digits",
        )
    base = Path(root or ".")

    def idx(n):
        b = gzip.open(base / n).read()
        nd = b[3]
        dims = np.frombuffer(b, ">u4", nd, 4)
        return np.frombuffer(b, np.uint8, offset=4 + 4 * nd).reshape(dims)

    return CatalogData(
        name,
        tuple(map(str, range(10))),
        {
            "train": idx("train-images-idx3-ubyte.gz")[..., None],
            "test": idx("t10k-images-idx3-ubyte.gz")[..., None],
        },
        {
            "train": idx("train-labels-idx1-ubyte.gz").astype(np.int64),
            "test": idx("t10k-labels-idx1-ubyte.gz").astype(np.int64),
        },
        (),
        f"built-in {name}",
    )
