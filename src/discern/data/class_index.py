"""Files that number classes: a JSON object of class name to number, as Catalyst's tag2class.json.

Owns reading and finding them. The numbers give the order of the classes; a table may hold names or
numbers.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from discern.base.errors import DataError
from discern.base.names import did_you_mean
from discern.data.label_columns import LabelColumn

# What the guides and tools of Catalyst call the file.
USUAL_NAMES: Final = ("tag2class.json", "tag2cls.json", "labeling.json")
# A file of 100,000 class names has about 4 MB; a larger one is something else.
_LARGEST: Final = 16 << 20
# Among more JSON files than these, one is not guessed at: it is to have a usual name.
_MOST_FILES: Final = 20


def read_class_index(path: Path) -> tuple[str, ...]:
    """The class names in the order of their numbers. Raises DataError for anything else."""
    try:
        size = path.stat().st_size
        pairs = _pairs(path.read_bytes()) if size <= _LARGEST else None
    except OSError as error:
        raise DataError("the class file cannot be read", where=path, got=error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise DataError("the class file is not JSON", where=path, got=str(error)) from error
    if pairs is None:
        raise DataError(
            "the class file is no list of numbered classes",
            where=path,
            expected='a JSON object such as {"cat": 0, "dog": 1}',
        )
    names = [name for name, _ in pairs]
    repeated = sorted({name for name in names if names.count(name) > 1}) if _repeats(names) else []
    if repeated:
        raise DataError("a class is numbered twice", where=path, got=", ".join(repeated))
    order = sorted(pairs, key=lambda pair: pair[1])
    if [number for _, number in order] != list(range(len(order))):
        raise DataError(
            "the numbers of the classes are not 0, 1, 2 ...",
            where=path,
            got=", ".join(f"{name}: {number}" for name, number in order[:10]),
            expected=f"0 to {len(order) - 1}, each once",
        )
    return tuple(name for name, _ in order)


def _repeats(names: list[str]) -> bool:
    return len(set(names)) < len(names)


def _pairs(data: bytes) -> list[tuple[str, int]] | None:
    """(name, number) pairs in file order, repeats included; None if it is not such an object."""
    found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_Pairs)
    if not isinstance(found, _Pairs) or not found:
        return None
    pairs: list[tuple[str, int]] = []
    for name, number in found:
        if not isinstance(number, int) or isinstance(number, bool):
            return None
        pairs.append((unicodedata.normalize("NFC", name), number))
    return pairs


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a repeated name is seen."""


def find_class_index(table: Path, labels: Collection[str]) -> Path | None:
    """The class file beside a table: one of the usual names, else the only one with all `labels`.

    Only files that name every label count.
    """
    folder = table.absolute().parent
    usual = [folder / name for name in (*USUAL_NAMES, f"{table.stem}.json")]
    there = [path for path in usual if path.is_file()]
    others = [path for path in sorted(folder.glob("*.json")) if path not in there]
    others = others if len(others) <= _MOST_FILES else []
    for candidates in (there, others):
        fitting = [path for path in candidates if set(labels) <= _names(path)]
        if len(fitting) == 1 or (fitting and candidates is there):
            return fitting[0]
    return None


def _names(path: Path) -> set[str]:
    """The class names in `path`; none if it is no class file: it only happened to lie there."""
    if path.stat().st_size > _LARGEST:
        return set()
    try:
        pairs = _pairs(path.read_bytes())
    except (ValueError, RecursionError):
        return set()
    return {name for name, _ in pairs or []}


def name_classes(column: LabelColumn, names: tuple[str, ...], source: Path) -> LabelColumn:
    """The column in the order of `names`; bare numbers are taken for places in it.

    Raises DataError for a label that is neither a name nor a place.
    """
    numbers = column.numeric and not set(column.used()) <= set(names)
    texts: list[str | None] = []
    for text in column.texts():
        if text is None or (not numbers and text in names):
            texts.append(text)
        elif numbers and 0 <= int(text) < len(names):
            texts.append(names[int(text)])
        else:
            raise DataError(
                "a label is not in the class file",
                where=source,
                got=text,
                expected=f"0 to {len(names) - 1}" if numbers else ", ".join(names[:20]),
                hint=did_you_mean(text, names),
            )
    return LabelColumn.of_labels(texts, name=column.name, classes=names)
