"""The random audit sample of automatic labels: a table that a person fills in.

Owns `audit.csv`: round, id, tag, confidence, filepath, verdict. A verdict is `right` or `wrong`
(yes, no, 1, 0), or the name of the true class; an empty one is none yet.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from discern.base.errors import DataError
from discern.base.files import write_text
from discern.data.label_ledger import GivenLabel

AUDIT_FILE: Final = "audit.csv"
_HEADER: Final = ("round", "id", "tag", "confidence", "filepath", "verdict")
_RIGHT: Final = frozenset(("right", "yes", "y", "1", "true"))
_WRONG: Final = frozenset(("wrong", "no", "n", "0", "false"))


def draw_sample(labels: Sequence[GivenLabel], count: int, seed: int) -> list[str]:
    """The contents of `count` labels drawn at random: by a keyed hash, the same every time."""

    def key(label: GivenLabel) -> bytes:
        return hashlib.sha256(f"{seed}/audit/{label.round}/{label.id}".encode()).digest()

    return [label.id for label in sorted(labels, key=key)[:count]]


def read_verdicts(path: Path, classes: Sequence[str]) -> dict[str, bool]:
    """Content -> whether its label is right, of the rows that have a verdict.

    An empty table where there is no file. Raises DataError for a verdict that is none.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, restval=""))
    except FileNotFoundError:
        return {}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the audit cannot be read: {error}", where=path) from error
    if rows and not {"id", "tag", "verdict"} <= set(rows[0]):
        raise DataError(
            "the audit has lost columns", where=path, got=", ".join(rows[0]),
            expected=", ".join(_HEADER),
        )  # fmt: skip
    verdicts = {}
    for number, row in enumerate(rows, 2):
        text = (row["verdict"] or "").strip()
        if not text:
            continue
        if text == row["tag"] or text in classes:
            verdicts[row["id"]] = text == row["tag"]
        elif text.casefold() in _RIGHT | _WRONG:
            verdicts[row["id"]] = text.casefold() in _RIGHT
        else:
            raise DataError(
                "a verdict of the audit is none",
                where=f"{path}, line {number}",
                got=text,
                expected="right, wrong, or the name of a class",
            )
    return verdicts


def write_audit(
    path: Path, sample: Sequence[GivenLabel], verdicts: Mapping[str, bool], clean: Path, raw: Path
) -> None:
    """Write the sample with the verdicts known so far. Keep what a person wrote: read it first."""
    known = _texts(path)
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(_HEADER)
    for label in sample:
        said = verdicts.get(label.id)
        text = known.get(label.id) or ("" if said is None else "right" if said else "wrong")
        place = raw.absolute() / label.source
        if label.path is not None and (clean / label.path).exists():
            place = clean.absolute() / label.path
        table.writerow((label.round, label.id, label.tag, f"{label.confidence:.6f}", place, text))
    write_text(path, stream.getvalue())


def _texts(path: Path) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return {row["id"]: row["verdict"] or "" for row in csv.DictReader(stream, restval="")}
    except FileNotFoundError:
        return {}
