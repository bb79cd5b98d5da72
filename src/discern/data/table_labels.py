"""Label columns out of a table's cells: names or numbers, tags, and columns of 0 and 1.

Owns what a cell means as a label. See `label_spec` for what can be asked for, `label_columns` for
the result and `tables` for the rest of a table.

Axes: N rows, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.names import did_you_mean
from discern.data.label_columns import LABEL, LabelColumn
from discern.data.label_spec import LabelSpec

LABEL_COLUMNS: Final = ("label", "class", "tag", "target", "category", "class_name", "wnid")
LABEL_HINT: Final = (
    "--label NAME names the label column; several, or several labels a cell: "
    "--label '{color: {}, tags: {kind: multi, delimiter: ;}}'"
)
_TRUTH: Final = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}

Columns = Mapping[str, Sequence[Any]]


def find_labels(
    columns: Columns, specs: Sequence[LabelSpec], others: Collection[str], path: Path
) -> tuple[LabelColumn, ...]:
    """The label columns that are asked for; without `specs`, those found by name.

    Else all columns but `others` are taken for one question if they hold 0 and 1 only. Empty if
    nothing is asked for and nothing is found. Raises DataError for a column that is not there, and
    for a cell that cannot be read, with its row.
    """
    if specs:
        split = _split_name(specs, columns)
        return tuple(_read_column(columns, spec, path) for spec in split)
    folded = {name.casefold(): name for name in columns}
    for known in LABEL_COLUMNS:
        if known in folded:
            return (_read_column(columns, LabelSpec(name=folded[known]), path),)
    rest = [name for name in columns if name not in others]
    if len(rest) > 1 and all(_is_truth(columns[name]) for name in rest):
        spec = LabelSpec(name=LABEL, kind="multi", columns=tuple(rest))
        return (_read_column(columns, spec, path),)
    return ()


def no_label_column(columns: Columns, path: Path) -> DataError:
    """The error that tells which columns there are and which are looked for."""
    return DataError(
        "the table has no label column",
        where=path,
        got=", ".join(columns),
        expected=f"one of {', '.join(LABEL_COLUMNS)}, or a column of 0 and 1 for each class",
        hint=LABEL_HINT,
    )


def _split_name(specs: Sequence[LabelSpec], columns: Columns) -> list[LabelSpec]:
    """`color,shape` stands for two columns where none is called so."""
    result: list[LabelSpec] = []
    for spec in specs:
        parts = [part.strip() for part in spec.name.split(",")]
        plain = spec == LabelSpec(name=spec.name)
        if plain and spec.name not in columns and len(parts) > 1:
            result += [LabelSpec(name=part) for part in parts]
        else:
            result.append(spec)
    return result


def _read_column(columns: Columns, spec: LabelSpec, path: Path) -> LabelColumn:
    for name in spec.columns or (spec.name,):
        if name not in columns:
            raise DataError(
                f"the table has no column '{name}'", where=path, got=", ".join(columns),
                hint=did_you_mean(name, columns),
            )  # fmt: skip
    if spec.columns:
        return _one_hot(columns, spec, path)
    values = columns[spec.name]
    lists = any(isinstance(value, list | tuple) for value in values)
    if spec.kind == "multi" or lists:
        rows = [_tags(value, spec, row, path) for row, value in enumerate(values, 1)]
        return LabelColumn.of_tags(rows, name=spec.name)
    labels = [_label_text(value) for value in values]
    numeric = all(label is None or label.lstrip("-").isdigit() for label in labels)
    return LabelColumn.of_labels(labels, name=spec.name, numeric=numeric)


def _label_text(value: Any) -> str | None:
    """None for an empty cell; whole numbers without `.0`, which tables with gaps give them."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _tags(value: Any, spec: LabelSpec, row: int, path: Path) -> list[str] | None:
    text = _label_text(value) if not isinstance(value, list | tuple) else None
    if isinstance(value, list | tuple):
        parts = list(value)
    elif text is None:
        return [] if spec.empty == "none" else None
    elif spec.delimiter is not None:
        parts = text.split(spec.delimiter)
    else:
        parts = _tag_list(text, spec, row, path)
    return [part for part in map(_label_text, parts) if part is not None]


def _tag_list(text: str, spec: LabelSpec, row: int, path: Path) -> list[Any]:
    """The labels of a cell that is a JSON list, or one label: then an image has several rows."""
    try:
        parts = json.loads(text) if text.startswith("[") else None
    except (ValueError, RecursionError):
        parts = None
    if isinstance(parts, list):
        return parts
    if not any(mark in text for mark in ";,|["):
        return [text]
    raise DataError(
        "it is not said what stands between the labels of a cell",
        where=f"{path}, row {row}, column '{spec.name}'",
        got=text,
        expected=f"data.labels: {{{spec.name}: {{kind: multi, delimiter: ';'}}}}, or JSON lists",
    )


def _is_truth(values: Sequence[Any]) -> bool:
    seen = {_label_text(value) for value in values} - {None}
    return bool(seen) and all(str(text).casefold() in _TRUTH for text in seen)


def _one_hot(columns: Columns, spec: LabelSpec, path: Path) -> LabelColumn:
    targets = np.stack(
        [_truths(columns[name], name, path) for name in spec.columns], axis=1
    ).astype(np.float32)
    if spec.kind == "multi":
        if spec.empty == "none":
            targets = np.nan_to_num(targets, nan=0.0)
        return LabelColumn(
            name=spec.name, kind="multi", classes=spec.columns, targets=targets, ordered=True
        )
    yes = targets == 1.0
    wrong = np.flatnonzero(yes.sum(axis=1) > 1)
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            "an image has several labels in a column of one label an image",
            where=f"{path}, row {row + 1}",
            got=", ".join(spec.columns[k] for k in np.flatnonzero(yes[row])),
            expected="one column with 1, or kind: multi",
        )
    single = np.where(yes.any(axis=1), yes.argmax(axis=1), -1).astype(np.int64)
    return LabelColumn(name=spec.name, classes=spec.columns, targets=single, ordered=True)


def _truths(values: Sequence[Any], name: str, path: Path) -> NDArray[np.float64]:
    """0 and 1, shares between them, NaN where empty. Raises DataError with the row."""
    result = np.empty(len(values))
    for row, value in enumerate(values):
        text = _label_text(value)
        try:
            number = np.nan if text is None else _TRUTH.get(text.casefold(), None)
            number = float(str(text)) if number is None else number
        except ValueError:
            number = -1.0
        if text is not None and not 0.0 <= number <= 1.0:
            raise DataError(
                "a cell of a class column is not 0 or 1",
                where=f"{path}, row {row + 1}, column '{name}'",
                got=value,
                expected="0, 1, a share between them, or nothing",
            )
        result[row] = number
    return result
