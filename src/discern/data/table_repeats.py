"""Rows of a table that name one image twice: equal ones are merged, others refused.

Owns that rule. An image that stands in two rows would be in two splits, or be two classes.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.label_columns import LabelColumn
from discern.data.listing import Listing
from discern.data.manifest import SPLITS


def merge_repeats(listing: Listing, rows: NDArray[np.int64], table: Path) -> Listing:
    """One row an image. `rows`: the number of each in the table, for messages.

    Rows that repeat another are left out and counted in a note. For questions with several labels
    an image, rows of one image add up. Raises DataError where two rows of one image disagree.
    """
    paths = listing.locations.paths.tolist()
    first: dict[str, int] = {}
    keeps = [first.setdefault(os.path.normpath(path), row) for row, path in enumerate(paths)]
    keep = np.array(keeps, dtype=np.int64)
    again = np.flatnonzero(keep != np.arange(len(keep)))
    if not len(again):
        return listing
    _check_columns(listing, keep, again, rows, table)
    heads = tuple(_merged(head, keep, again, listing, rows, table) for head in listing.heads)
    kept = np.flatnonzero(keep == np.arange(len(keep))).astype(np.int64)
    note = f"{len(again)} of {len(paths)} rows of {table.name} name an image again and were merged"
    merged = listing.with_heads(heads).select(kept)
    return replace(merged, notes=(*merged.notes, note))


def _check_columns(
    listing: Listing,
    keep: NDArray[np.int64],
    again: NDArray[np.int64],
    rows: NDArray[np.int64],
    table: Path,
) -> None:
    for name in ("split", "fold", "group", "weight"):
        values: NDArray[Any] | None = getattr(listing, name)
        if values is None:
            continue
        differ = again[values[again] != values[keep[again]]]
        if len(differ):
            row = int(differ[0])
            pair = [values[keep[row]], values[row]]
            if name == "split":
                pair = [SPLITS[code] if code >= 0 else "none" for code in pair]
            raise _disagree(name, pair, row, int(keep[row]), listing, rows, table)


def _merged(
    head: LabelColumn,
    keep: NDArray[np.int64],
    again: NDArray[np.int64],
    listing: Listing,
    rows: NDArray[np.int64],
    table: Path,
) -> LabelColumn:
    if head.kind == "multi":
        targets = head.targets.copy()
        # fmax takes the known value where the other one is missing.
        np.fmax.at(targets, keep[again], head.targets[again])
        return replace(head, targets=targets)
    differ = again[head.targets[again] != head.targets[keep[again]]]
    if len(differ):
        row = int(differ[0])
        texts = head.texts()
        pair = [texts[keep[row]] or "no label", texts[row] or "no label"]
        raise _disagree(f"label '{head.name}'", pair, row, int(keep[row]), listing, rows, table)
    return head


def _disagree(
    what: str,
    pair: list[Any],
    row: int,
    other: int,
    listing: Listing,
    rows: NDArray[np.int64],
    table: Path,
) -> DataError:
    labels = what.startswith("label")
    return DataError(
        f"two rows of one image differ in their {what}",
        where=f"{table}, rows {rows[other]} and {rows[row]}",
        got=f"{listing.locations.paths[row]}: {pair[0]} and {pair[1]}",
        expected="one row an image",
        hint="for several labels an image: data.labels: {NAME: {kind: multi}}" if labels else None,
    )
