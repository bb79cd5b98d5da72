"""Charts of recorded figures for notebooks: distribution, histogram, scatter, heat map.

Each chart keeps the numbers that it shows in `data`, so that they can be used and tested.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError
from discern.base.files import write_bytes

_QUANTILES: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_BANDS: Final = ((0, 6, 0.15), (1, 5, 0.25), (2, 4, 0.35))
_COLOR: Final = "#0072b2"


@dataclass(frozen=True, slots=True)
class Chart:
    """`data`: the arrays shown; `figure`: matplotlib's. Notebooks show it as it is."""

    data: Mapping[str, NDArray[Any]]
    figure: Any

    def png(self) -> bytes:
        """The picture."""
        stream = io.BytesIO()
        self.figure.savefig(stream, format="png", metadata={"Software": None})
        return stream.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the picture to `path`, whole or not at all."""
        write_bytes(Path(path), self.png())

    def _repr_png_(self) -> bytes:
        return self.png()


def distribution_chart(
    steps: NDArray[np.int64], values: NDArray[np.float64], title: str, bins: int = 50
) -> Chart:
    """How `values` spread over the training: quantiles in stretches of equally many steps.

    `data`: `steps` [S], the middle of each stretch that has finite values; `quantiles` [S, 7] of
    0, 10, 25, 50, 75, 90, 100 %; `counts` [S]. Not-finite values are left out of quantiles and
    counted in `not_finite` [S]. Raises ConfigError for no points or no bins.
    """
    edges = _edges(steps, bins)
    places = np.clip(np.searchsorted(edges, steps, "right") - 1, 0, bins - 1)
    finite = np.isfinite(values)
    used = np.unique(places[finite])
    quantiles = np.array([np.quantile(values[finite & (places == p)], _QUANTILES) for p in used])
    data = {
        "steps": (edges[used] + edges[used + 1]) / 2,
        "quantiles": quantiles.reshape(-1, len(_QUANTILES)),
        "counts": np.array([(finite & (places == p)).sum() for p in used], np.int64),
        "not_finite": np.array([(~finite & (places == p)).sum() for p in used], np.int64),
    }
    figure, axes = _axes(title, "step", "value")
    for low, high, strength in _BANDS:
        axes.fill_between(
            data["steps"], data["quantiles"][:, low], data["quantiles"][:, high],
            color=_COLOR, alpha=strength, linewidth=0,
        )  # fmt: skip
    axes.plot(data["steps"], data["quantiles"][:, 3], color=_COLOR, linewidth=1.5)
    return Chart(data, figure)


def histogram_chart(values: NDArray[np.float64], title: str, bins: int = 30) -> Chart:
    """How often values occur. `data`: `edges` [bins + 1], `counts` [bins], of the finite values.

    Raises ConfigError for no finite value or no bins.
    """
    finite = _finite(values, bins)
    counts, edges = np.histogram(finite, bins)
    figure, axes = _axes(title, "value", "count")
    axes.stairs(counts, edges, fill=True, color=_COLOR)
    return Chart({"edges": edges, "counts": counts}, figure)


def scatter_chart(x: NDArray[np.float64], y: NDArray[np.float64], names: Sequence[str]) -> Chart:
    """A point for each pair that is finite; `names` of both axes. `data`: `x`, `y`."""
    x, y = _pairs(x, y)
    figure, axes = _axes(" and ".join(names), *names)
    axes.scatter(x, y, color=_COLOR, s=18, alpha=0.7)
    return Chart({"x": x, "y": y}, figure)


def heat_chart(
    x: NDArray[np.float64], y: NDArray[np.float64], names: Sequence[str], bins: int = 20
) -> Chart:
    """How often pairs occur. `data`: `counts` [bins, bins] (x, y), `x_edges`, `y_edges`."""
    x, y = _pairs(x, y)
    _finite(x, bins)
    counts, x_edges, y_edges = np.histogram2d(x, y, bins)
    figure, axes = _axes(" and ".join(names), *names)
    mesh = axes.pcolormesh(x_edges, y_edges, counts.T, cmap="Blues")
    figure.colorbar(mesh, ax=axes, label="count")
    data = {"counts": counts.astype(np.int64), "x_edges": x_edges, "y_edges": y_edges}
    return Chart(data, figure)


def _edges(steps: NDArray[np.int64], bins: int) -> NDArray[np.float64]:
    _finite(steps.astype(np.float64), bins)
    return np.linspace(float(steps.min()), float(steps.max()) + 1, bins + 1)


def _finite(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    if bins < 1:
        raise ConfigError("a chart has at least one bin", where="bins", got=bins)
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise ConfigError("there is nothing to draw", got=f"{len(values)} values, none finite")
    return finite


def _pairs(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    both = np.isfinite(x) & np.isfinite(y)
    if not both.any():
        raise ConfigError("there is nothing to draw", got=f"{len(x)} pairs, none of two numbers")
    return x[both], y[both]


def _axes(title: str, across: str, up: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    from discern.track.curves import plain_text

    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained", facecolor="white")
    axes: Any = figure.add_subplot()
    axes.set_title(plain_text(title), fontsize=11)
    axes.set_xlabel(plain_text(across))
    axes.set_ylabel(plain_text(up))
    axes.grid(color="#e4e7eb", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
