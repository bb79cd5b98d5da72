"""What a `.lst` or a table says of images' labels, before the images are looked for.

Owns which column is which, and class numbers by name. See `relabel` for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from discern.base.errors import DataError
from discern.base.names import did_you_mean
from discern.data.class_numbers import class_names_beside, number_columns
from discern.data.label_columns import LabelColumn
from discern.data.label_spec import LabelSpec
from discern.data.manifest import Head
from discern.data.record_files import LIST_SUFFIX, label_matrix, read_list, skipped_note
from discern.data.table_files import TABLE_SUFFIXES, read_table
from discern.data.table_labels import find_labels, no_label_column
from discern.data.tables import path_column

ID: Final = "id"
PATH: Final = "path"
NUMBER: Final = "record number"


@dataclass(frozen=True, slots=True)
class NewLabels:
    """What a table says: a key per row, the columns by head, and how keys may find images.

    `ways`: of ID, PATH and NUMBER; `numbers`: the keys for the last.
    """

    keys: list[str]
    columns: dict[str, LabelColumn]
    ways: tuple[str, ...]
    numbers: list[str]
    notes: tuple[str, ...] = ()


def read_labels(
    path: Path,
    heads: Sequence[Head],
    *,
    column: str | None = None,
    key: str | None = None,
    delimiter: str | None = None,
) -> NewLabels:
    """The labels in the file at `path` for `heads`. Raises DataError."""
    if path.suffix.lower() == LIST_SUFFIX:
        return _read_lst(path, heads)
    if path.name.lower().endswith(TABLE_SUFFIXES):
        return _read_columns(path, heads, column, key, delimiter)
    raise DataError(
        "not a table of labels",
        where=path,
        expected=f"a file ending in {', '.join((LIST_SUFFIX, *TABLE_SUFFIXES))}",
    )


def _read_lst(path: Path, heads: Sequence[Head]) -> NewLabels:
    """The labels of a list: one column each, or the classes of the one multi head."""
    found = read_list(path)
    if not found.rows:
        raise DataError("the list has no labels", where=path, got="; ".join(found.skipped[:3]))
    paths = [row.path for row in found.rows]
    values = label_matrix([row.labels for row in found.rows], paths)
    names, _ = class_names_beside([path])
    widths = [1 if head.kind == "single" else len(head.classes) for head in heads]
    if sum(widths) != values.shape[1] and not (values.shape[1] == 1 and len(heads) == 1):
        raise DataError(
            "the list has another number of labels than the data",
            where=path,
            got=f"{values.shape[1]} labels an image",
            expected=f"{sum(widths)}: {', '.join(head.name for head in heads)}",
            hint="--head NAME chooses one label column",
        )
    columns: dict[str, LabelColumn] = {}
    begin = 0
    for head, width in zip(heads, widths, strict=True):
        own = values[:, begin : begin + width]
        begin += width
        if head.kind == "multi":
            columns[head.name] = LabelColumn(
                name=head.name, kind="multi", classes=head.classes, targets=own, ordered=True
            )
            continue
        # Bare numbers as classes are meant by value, names by their place.
        bare = all(name.isdigit() for name in head.classes)
        order = (names if len(heads) == 1 else None) or (None if bare else head.classes)
        columns[head.name] = number_columns(own, order, paths)[0]
    numbers = [str(row.id) for row in found.rows]
    ways = (PATH, NUMBER)
    return NewLabels(paths, columns, ways, numbers, skipped_note(path, found.skipped))


def _read_columns(
    path: Path, heads: Sequence[Head], column: str | None, key: str | None, delimiter: str | None
) -> NewLabels:
    table = read_table(path)
    columns = {name: list(values) for name, values in table.columns.items()}
    if not table.rows:
        raise DataError("the table has no rows", where=path)
    if key is None:
        key = ID if ID in columns else path_column(columns, path)
    for name in (key, column):
        if name is not None and name not in columns:
            raise DataError(
                f"the table has no column '{name}'", where=path, got=", ".join(columns),
                hint=did_you_mean(name, columns),
            )  # fmt: skip
    keys = [str(value) if value is not None else "" for value in columns[key]]
    if "" in keys:
        raise DataError("a row names no image", where=f"{path}, row {keys.index('') + 1}")
    named = [head for head in heads if head.name in columns and head.name != key]
    if column is not None or not named:
        if len(heads) > 1:
            raise DataError(
                "it is not said which label column of the data is meant",
                where=path,
                got=column or ", ".join(columns),
                expected=", ".join(head.name for head in heads),
                hint="--head NAME chooses it",
            )
        name = column or _label_column(columns, key, path)
        asked = {name: heads[0]}
    else:
        asked = {head.name: head for head in named}
    found = {}
    for name, head in asked.items():
        spec = LabelSpec(
            name=name, kind=head.kind, delimiter=delimiter if head.kind == "multi" else None
        )
        found[head.name] = _by_number(find_labels(columns, (spec,), (), path)[0], head)
    return NewLabels(keys, found, (ID, PATH, NUMBER), keys)


def _by_number(column: LabelColumn, head: Head) -> LabelColumn:
    """The column with the names of the head's classes, if it gives their places as numbers."""
    places = [int(name) for name in column.classes if name.isdigit()]
    named = set(column.classes) & set(head.classes)
    if head.kind == "multi" or named or len(places) < len(column.classes):
        return column
    if not places or max(places) >= len(head.classes):
        return column
    return replace(column, classes=tuple(head.classes[place] for place in places))


def _label_column(columns: Mapping[str, Sequence[Any]], key: str, path: Path) -> str:
    found = find_labels(columns, (), {key}, path)
    if not found or found[0].name not in columns:
        raise no_label_column(columns, path)
    return found[0].name
