"""Features made ready for an index: standardized, projected on principal axes, of length 1.

Owns the fit and its use; the same steps for what is indexed and for what is asked.
Axes: N images, D features, P principal axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError

# Rows projected at once: 8,192 of 2,048 numbers are 134 MB as float64.
_BLOCK = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """`mean`, `scale` float32 [D]; `axes` float32 [P, D] or None without PCA.

    `explained_variance`: the share of the standardized features' variance along the axes; 1.0
    without PCA.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    axes: NDArray[np.float32] | None
    explained_variance: float

    def apply(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows [N, D] as directions float32 [N, P]; rows at the center stay zero.

        Raises DataError for another number of features, and for values that are not finite.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise DataError(
                "these features are of another width than the index",
                got=f"shape {features.shape}",
                expected=f"[N, {len(self.mean)}]",
                hint="take the layer and the model that the index was built with",
            )
        check_finite(features)
        width = len(self.mean) if self.axes is None else len(self.axes)
        reduced = np.empty((len(features), width), dtype=np.float32)
        for start in range(0, len(features), _BLOCK):
            part = (features[start : start + _BLOCK] - self.mean) / self.scale
            reduced[start : start + _BLOCK] = part if self.axes is None else part @ self.axes.T
        lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
        reduced /= np.where(lengths > 0, lengths, 1.0)
        return reduced


def fit_reduction(
    features: NDArray[np.float32], axes: int | None, *, standardize: bool = True
) -> Reduction:
    """Fit to `features` [N, D]; `axes`: principal axes kept, None: no PCA.

    The axes are eigenvectors of the covariance in float64, each with its largest part positive, so
    that the same features give the same index. Raises ConfigError for more axes than rows or
    features, DataError for fewer than two rows or values that are not finite.
    """
    count, width = features.shape
    if count < 2:
        raise DataError(
            "one image is no index: there is nothing to find beside it", got=count, expected=">= 2"
        )
    check_finite(features)
    if axes is not None and not 1 <= axes <= min(count, width):
        raise ConfigError(
            "there are not so many principal axes",
            where="--pca",
            got=axes,
            expected=f"1 to {min(count, width)}: {count} images of {width} features",
        )
    mean = features.mean(axis=0, dtype=np.float64)
    deviation = np.sqrt(_variance(features, mean)) if standardize else np.ones(width)
    # A feature that never changes is rounding noise around its mean, not a scale to divide by.
    scale = np.where(deviation > 1e-7 * np.maximum(np.abs(mean), 1e-30), deviation, 1.0)
    kept, explained = None, 1.0
    if axes is not None:
        values, vectors = np.linalg.eigh(_covariance(features, mean, scale))
        order = np.argsort(-values, kind="stable")[:axes]
        total = float(values.sum())
        explained = float(values[order].sum()) / total if total > 0 else 1.0
        rows = vectors[:, order].T
        largest = np.abs(rows).argmax(axis=1)
        signs = np.sign(rows[np.arange(len(rows)), largest])
        kept = (rows * signs[:, None]).astype(np.float32)
    return Reduction(
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        axes=kept,
        explained_variance=min(explained, 1.0),
    )


def check_finite(features: NDArray[np.float32]) -> None:
    """Raises DataError naming the first row with a value that is not finite."""
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise DataError(
            "features are not finite",
            where=f"row {bad[0]}",
            got=f"{len(bad)} of {len(features)} rows with NaN or infinity",
            hint="embed the images again with a sound model",
        )


def _variance(features: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros(features.shape[1])
    for start in range(0, len(features), _BLOCK):
        total += np.square(features[start : start + _BLOCK] - mean).sum(axis=0)
    return total / len(features)


def _covariance(
    features: NDArray[np.float32], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    width = features.shape[1]
    total = np.zeros((width, width))
    for start in range(0, len(features), _BLOCK):
        part = (features[start : start + _BLOCK] - mean) / scale
        total += part.T @ part
    return total / len(features)
