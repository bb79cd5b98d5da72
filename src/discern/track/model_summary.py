"""A network's layers, sizes and costs as a record, which is read without torch.

Owns `model_summary.json` of a run's folder, version 1:

    {"format": "discern.model_summary", "version": 1, "source": "counted" | "keras" | "torchinfo"
     | "torchsummary", "network", "input": [C, H, W] | null, "parameters", "trainable",
     "macs": for one image | null, "layers": [{"name", "kind", "output": [...] | null,
     "parameters", "trainable", "macs"}], "memory": {...}}

`memory` holds bytes: `parameters`, `gradients`, `optimizer`, and `activations` for one image. What
nobody told is null. A network that a program printed is told in the program's words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from discern.base.errors import RunError
from discern.base.files import write_json

SUMMARY_FILE: Final = "model_summary.json"
FORMAT: Final = "discern.model_summary"
VERSION: Final = 1


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Put `summary` into the run's `folder`, whole or not at all."""
    write_json(folder / SUMMARY_FILE, {"format": FORMAT, "version": VERSION, **summary})


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The summary in the run's `folder`; None without one. Raises RunError if it is damaged."""
    path = folder / SUMMARY_FILE
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RunError(f"the model summary is damaged: {error}", where=path) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RunError("this is no model summary", where=path)
    if record.get("version") != VERSION:
        raise RunError(
            "the model summary has another version", where=path, got=record.get("version"),
            expected=VERSION,
        )  # fmt: skip
    return record


def summary_line(summary: dict[str, Any]) -> str:
    """The sizes in one line for people."""
    total, trained = int(summary["parameters"]), int(summary["trainable"])
    words = [f"{total:,} parameters"]
    words.append("all trained" if trained == total else f"{trained:,} trained")
    if summary.get("macs") is not None:
        words.append(f"{summary['macs'] / 1e9:.3f} GMACs an image")
    layers = len(summary["layers"])
    return ", ".join([*words, f"{layers} layers"])
