"""Copies among the images of a data set, and what they do: conflicts of labels, leaks of splits.

Owns the step from equal bytes, looks and embeddings to groups and findings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from discern.data.check_findings import DuplicateGroup, Finding, ImageRows
from discern.data.duplicates import (
    PICTURE_SIDE,
    Looks,
    embedding_pairs,
    equal_groups,
    join_pairs,
    near_groups,
)

_SHOWN_NAMES = 5


def find_copies(
    digests: Sequence[str],
    looks: Looks | None,
    sizes: NDArray[np.int32],
    *,
    distance: int,
    embeddings: NDArray[np.floating] | None,
    cosine: float,
) -> tuple[list[DuplicateGroup], list[str]]:
    """(groups of equal bytes, then of equal looks and of near embeddings, notes).

    Images under 32 pixels are told by their bytes alone: the hash is made of 32 x 32 pixels, and
    handwritten digits, say, are too much alike. `looks` None looks for no near duplicates.
    A near group names all copies of each of its images.
    """
    exact = equal_groups(digests)
    groups = [DuplicateGroup("exact", tuple(group.tolist())) for group in exact]
    notes: list[str] = []
    copies = {int(group[0]): group for group in exact}
    single = np.ones(len(digests), dtype=np.bool_)
    for group in exact:
        single[group[1:]] = False

    def whole(group: NDArray[np.int64]) -> tuple[int, ...]:
        members = [copies.get(row, np.array([row])) for row in group.tolist()]
        return tuple(sorted(np.concatenate(members).tolist()))

    if looks is not None:
        large = sizes.min(axis=1) >= PICTURE_SIDE if len(sizes) else np.zeros(0, dtype=np.bool_)
        found, complete = near_groups(looks, np.flatnonzero(single & large), distance)
        groups += [DuplicateGroup("near", whole(group)) for group in found]
        if not complete:
            notes.append("too many images look alike: the search for near duplicates ended early")
        small = int((~large & (sizes[:, 0] > 0)).sum())
        if small:
            notes.append(
                f"{small:,} images under {PICTURE_SIDE} pixels were not compared for near "
                "duplicates: they have too little detail"
            )
    if embeddings is not None:
        pairs = embedding_pairs(embeddings, cosine)
        pairs = pairs[single[pairs].all(axis=1)]
        known = [set(group.rows) for group in groups]
        for group in join_pairs(pairs):
            members = whole(group)
            if not any(set(members) <= other for other in known):
                groups.append(DuplicateGroup("embedding", members))
    return groups, notes


def copy_findings(rows: ImageRows, groups: Sequence[DuplicateGroup]) -> list[Finding]:
    """What the groups mean: copies, the same image under two labels, or in two splits."""
    findings = []
    for group in groups:
        exact = group.how == "exact"
        what = {
            "exact": "same bytes",
            "near": "nearly the same picture",
            "embedding": "nearly the same embedding",
        }[group.how]
        kind = "exact-duplicate" if exact else "near-duplicate"
        text = f"{len(group.rows)} images, {what}"
        findings.append(_finding(rows, group, kind, "warning" if exact else "note", text))
        severity = "error" if exact else "warning"
        labels = _different(rows.labels, group)
        if len(labels) > 1:
            text = f"{what}, labels {_names(labels)}"
            findings.append(_finding(rows, group, "label-conflict", severity, text))
        splits = _different(rows.splits, group)
        if len(splits) > 1:
            text = f"{what} in {_names(splits)}"
            findings.append(_finding(rows, group, "leakage", severity, text))
    return findings


def _different(values: Sequence[str | None], group: DuplicateGroup) -> list[str]:
    """The different values of the group's images, without None, in the order met."""
    return list(dict.fromkeys(v for row in group.rows if (v := values[row]) is not None))


def _names(names: list[str]) -> str:
    shown = " and ".join(names) if len(names) == 2 else ", ".join(names[:_SHOWN_NAMES])
    return shown + (f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else "")


def _finding(
    rows: ImageRows, group: DuplicateGroup, kind: str, severity: str, text: str
) -> Finding:
    return Finding(
        kind=kind,
        severity=severity,
        text=text,
        rows=group.rows,
        paths=tuple(rows.paths[row] for row in group.rows),
    )
