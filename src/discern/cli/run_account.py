"""What `runs show` tells of a run's network and of the machine under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discern.track.metrics_read import Series
    from discern.track.run_folder import Run


def account(run: Run) -> dict[str, Any]:
    """`model_summary`: the sizes of the network; `system`: mean and most of the meter's series.

    Each is None where the run has none. Raises RunError for a damaged record.
    """
    from discern.track.meter.system import SYSTEM
    from discern.track.metrics_read import read_all
    from discern.track.model_summary import read_summary

    summary = read_summary(run.path)
    if summary is not None:
        summary = {**summary, "layers": len(summary["layers"])}
    system = read_all(run.path / SYSTEM)
    figures = {name: _figures(points) for name, points in system.items() if len(points)}
    return {"model_summary": summary, "system": figures or None}


def account_lines(run: Run) -> list[str]:
    """The same as lines for people."""
    from discern.track.model_summary import read_summary, summary_line

    lines = []
    summary = read_summary(run.path)
    if summary is not None:
        lines.append(f"model    {summary_line(summary)}")
    found = account(run)["system"]
    for name, figures in (found or {}).items():
        lines.append(f"system   {name}: mean {figures['mean']:.1f}, most {figures['most']:.1f}")
    return lines


def _figures(points: Series) -> dict[str, float]:
    return {"mean": float(points.values.mean()), "most": float(points.values.max())}
