"""Catalyst's two data tools: `tag2label` and `split_dataframe`, file for file, byte for byte.

Owns their CSV and JSON files (CSV: `\\n` line ends, quotes only where needed, as pandas writes;
JSON: indent 4, no newline at the end). Cells of a table given are kept as they are: a class called
`NA` or `007` stays one. Discern's own splits are in `resplit`.
"""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from discern.base.errors import ConfigError, DataError
from discern.base.files import write_bytes
from discern.base.names import did_you_mean
from discern.data.listing import SUFFIXES
from discern.data.table_files import Table, read_table

# Catalyst's own: both the seed of the folds and their number.
SEED: Final = 42
FOLDS: Final = 5
_SHOWN: Final = 10

Folds = str | Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelingReport:
    """What `tag2label` wrote: rows, and the number of each class."""

    dataset: str
    labeling: str
    rows: int
    classes: dict[str, int]
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"notes": list(self.notes)}

    def lines(self) -> list[str]:
        """For the terminal; the first as Catalyst prints it."""
        return [f"Num classes:  {len(self.classes)}", *(f"note: {note}" for note in self.notes)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldsReport:
    """What `split_dataframe` wrote: rows by file, and by fold."""

    files: dict[str, int]
    folds: dict[int, int]
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        folds = {str(fold): rows for fold, rows in self.folds.items()}
        return {"files": self.files, "folds": folds, "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """For the terminal."""
        lines = [f"{rows:>9,} rows  {name}" for name, rows in self.files.items()]
        return lines + [f"note: {note}" for note in self.notes]


def tag2label(
    *,
    in_csv: Path | str | None = None,
    in_dirs: str | Sequence[Path | str] | None = None,
    out_dataset: Path | str,
    out_labeling: Path | str,
    tag_column: str = "tag",
    tag_delim: str | None = None,
    recursive: bool = False,
) -> LabelingReport:
    """Write the table of a folder's files by class, and the number of each class as JSON.

    `in_dirs`: folders of class folders, in a row or separated by commas; with several, the last
    part of each goes before its paths. Or `in_csv`: a table with `tag_column`. `tag_delim` makes a
    row of each tag of a cell. `recursive` looks below the class folders, too. Rows are sorted by
    folder, then file; classes by name, or by value if all are numbers of a table. Raises
    ConfigError, DataError.
    """
    if (in_csv is None) == (in_dirs is None):
        raise ConfigError(
            "classes come from folders or from a table",
            got="both" if in_csv is not None else "neither",
            expected="--in-dir or --in-csv",
        )
    notes: tuple[str, ...] = ()
    if in_csv is not None:
        columns = _read(Path(in_csv), (tag_column,))
    else:
        folders = in_dirs.strip(",").split(",") if isinstance(in_dirs, str) else in_dirs or ()
        columns, notes = _list_folders(folders, tag_column, recursive=recursive)
    if tag_delim is not None:
        columns = _one_tag_a_row(columns, tag_column, tag_delim)
    tags = _ordered(columns[tag_column], numbers=in_csv is not None)
    classes = {tag: number for number, tag in enumerate(tags)}
    _write_csv(Path(out_dataset), columns)
    write_bytes(Path(out_labeling), json.dumps(classes, indent=4).encode())
    return LabelingReport(
        dataset=str(out_dataset),
        labeling=str(out_labeling),
        rows=len(columns[tag_column]),
        classes=classes,
        notes=notes,
    )


def split_dataframe(
    *,
    in_csv: Path | str,
    out_csv: Path | str,
    train_folds: Folds,
    valid_folds: Folds | None = None,
    infer_folds: Folds | None = None,
    tag2class: Path | str | None = None,
    tag_column: str | None = None,
    class_column: str | None = None,
    n_folds: int | None = None,
    num_folds: int | None = None,
    seed: int = SEED,
) -> FoldsReport:
    """Write the table with a `fold` column to X.csv, and its rows to X_train, X_valid, X_infer.

    `tag2class`: a JSON of class numbers, from which `class_column` is made out of `tag_column`.
    With a class column the folds are scikit-learn's StratifiedKFold(shuffle=True), rows in their
    order; without, rows are shuffled and cut. Valid folds default to all that do not train, infer
    folds to what is left. Raises ConfigError, DataError.
    """
    count = _fold_count(n_folds, num_folds)
    chosen = _choose_folds(train_folds, valid_folds, infer_folds, count)
    columns = _read(Path(in_csv), ())
    if tag2class is not None:
        if tag_column is None or class_column is None:
            raise ConfigError(
                "class numbers need the column of tags and a name for the column of classes",
                got="--tag2class alone",
                expected="--tag2class with --tag-column and --class-column",
            )
        columns = _with_classes(columns, Path(in_csv), tag_column, class_column, Path(tag2class))
    notes: list[str] = []
    if class_column is None:
        rows, fold = _shuffled_folds(len(next(iter(columns.values()))), count, seed)
        columns = {name: [column[row] for row in rows] for name, column in columns.items()}
    else:
        _need_column(columns, class_column, Path(in_csv))
        fold = stratified_folds(columns[class_column], count, seed, Path(in_csv), notes)
    columns = {**columns, "fold": fold}
    stem = os.fspath(out_csv).removesuffix(".csv")
    files = {f"{stem}.csv": columns}
    for name, folds in chosen.items():
        rows = [row for row, number in enumerate(fold) if number in folds]
        files[f"{stem}_{name}.csv"] = {
            key: [column[row] for row in rows] for key, column in columns.items()
        }
    for path, part in files.items():
        _write_csv(Path(path), part)
    return FoldsReport(
        files={path: len(part["fold"]) for path, part in files.items()},
        folds={number: fold.count(number) for number in range(count)},
        notes=tuple(notes),
    )


def _list_folders(
    folders: Sequence[Path | str], tag_column: str, *, recursive: bool
) -> tuple[dict[str, list[Any]], tuple[str, ...]]:
    """The files of each class folder: columns tag and filepath, and notes."""
    tags: list[str] = []
    paths: list[str] = []
    notes: list[str] = []
    for folder in folders:
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise DataError("there is no such folder", where=root)
        prefix = f"{root.name or root.absolute().name}/" if len(folders) > 1 else ""
        found = _files_by_class(root, recursive=recursive)
        empty = [name for name, files in found.items() if not files]
        if empty:
            notes.append(f"no files in {', '.join(empty[:_SHOWN])} of {root}")
        for name, files in found.items():
            tags += [name] * len(files)
            paths += [prefix + path for path in files]
    if not paths:
        raise DataError(
            "there are no files in class folders",
            where=", ".join(str(folder) for folder in folders),
            expected="DIR/CLASS/image.jpg",
            hint=None if recursive else "--recursive looks below the class folders, too",
        )
    other = [path for path in paths if Path(path).suffix.lower() not in SUFFIXES]
    if other:
        notes.append(f"{len(other)} files have no image's name: {', '.join(other[:_SHOWN])}")
    return {tag_column: tags, "filepath": paths}, tuple(notes)


def _files_by_class(root: Path, *, recursive: bool) -> dict[str, list[str]]:
    """Relative paths of the files that are not hidden, by class folder, both by code point."""
    return {
        entry.name: sorted(_files_below(entry.path, f"{entry.name}/", (), recursive=recursive))
        for entry in sorted(os.scandir(root), key=lambda entry: entry.name)
        if not entry.name.startswith(".") and entry.is_dir()
    }


def _files_below(
    folder: str, prefix: str, above: tuple[tuple[int, int], ...], *, recursive: bool
) -> list[str]:
    """Files in a folder; a link that leads back to a folder above is not followed."""
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return []
    found: list[str] = []
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_file():
            found.append(prefix + entry.name)
        elif recursive and entry.is_dir():
            below = f"{prefix}{entry.name}/"
            found += _files_below(entry.path, below, (*above, here), recursive=True)
    return found


def _one_tag_a_row(
    columns: Mapping[str, list[Any]], tag_column: str, delim: str
) -> dict[str, list[Any]]:
    parts = [str(tag or "").split(delim) for tag in columns[tag_column]]
    rows = [row for row, tags in enumerate(parts) for _ in tags]
    result = {name: [column[row] for row in rows] for name, column in columns.items()}
    return result | {tag_column: [tag for tags in parts for tag in tags]}


def _ordered(tags: Sequence[Any], *, numbers: bool) -> list[str]:
    """The different tags by code point; by value if all are numbers and `numbers`."""
    unique = sorted({str(tag) for tag in tags})
    if numbers:
        try:
            return sorted(unique, key=float)
        except ValueError:
            return unique
    return unique


def _read(path: Path, needed: Sequence[str]) -> dict[str, list[Any]]:
    table: Table = read_table(path)
    columns = {name: list(column) for name, column in table.columns.items()}
    if not table.rows:
        raise DataError("the table has no rows", where=path)
    for name in needed:
        _need_column(columns, name, path)
        if None in columns[name]:
            row = columns[name].index(None) + 1
            raise DataError(f"a row has no {name}", where=f"{path}, row {row}")
    return columns


def _need_column(columns: Mapping[str, Any], name: str, path: Path) -> None:
    if name not in columns:
        raise DataError(
            f"the table has no column '{name}'",
            where=path,
            got=", ".join(columns),
            hint=did_you_mean(name, columns),
        )


def _with_classes(
    columns: dict[str, list[Any]], path: Path, tag_column: str, class_column: str, labeling: Path
) -> dict[str, list[Any]]:
    """The columns with class numbers in `class_column`, at its place or at the end."""
    _need_column(columns, tag_column, path)
    try:
        numbers = json.loads(labeling.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError("the class numbers cannot be read", where=labeling, got=error) from error
    if not isinstance(numbers, dict):
        raise DataError(
            "the class numbers are no JSON object", where=labeling, expected='{"name": 0, ...}'
        )
    unknown = sorted({str(tag) for tag in columns[tag_column]} - set(numbers))
    if unknown:
        raise DataError(
            f"{len(unknown)} classes have no number",
            where=labeling,
            got=", ".join(unknown[:_SHOWN]),
            hint=did_you_mean(unknown[0], numbers),
        )
    return {**columns, class_column: [numbers[str(tag)] for tag in columns[tag_column]]}


def _fold_count(n_folds: int | None, num_folds: int | None) -> int:
    given = {count for count in (n_folds, num_folds) if count is not None}
    if len(given) > 1:
        raise ConfigError(
            "--n-folds and --num-folds are one option", got=f"{n_folds} and {num_folds}"
        )
    count = given.pop() if given else FOLDS
    if count < 2:
        raise ConfigError("too few folds", got=count, expected="at least 2")
    return count


def _choose_folds(
    train: Folds, valid: Folds | None, infer: Folds | None, count: int
) -> dict[str, set[int]]:
    """The folds of train, valid and infer. Raises ConfigError for one that is not there."""
    everything = set(range(count))
    chosen = {"train": _fold_numbers(train)}
    chosen["valid"] = everything - chosen["train"] if valid is None else _fold_numbers(valid)
    left = everything - chosen["train"] - chosen["valid"]
    chosen["infer"] = left if infer is None else _fold_numbers(infer)
    for name, folds in chosen.items():
        if folds - everything:
            raise ConfigError(
                "no such fold",
                where=f"--{name}-folds",
                got=", ".join(map(str, sorted(folds - everything))),
                expected=f"0 to {count - 1}",
            )
    return chosen


def _fold_numbers(folds: Folds) -> set[int]:
    parts = folds.split(",") if isinstance(folds, str) else folds
    try:
        return {int(part) for part in parts if str(part).strip()}
    except ValueError as error:
        raise ConfigError(
            "not a list of folds", got=folds, expected="numbers and commas, such as 0,1,2,3"
        ) from error


def stratified_folds(
    classes: Sequence[Any], count: int, seed: int, path: Path, notes: list[str]
) -> list[int]:
    """Fold numbers in row order, by class; small classes go to `notes`. Raises DataError."""
    from sklearn.model_selection import StratifiedKFold

    texts = np.array([str(value) for value in classes])
    names, sizes = np.unique(texts, return_counts=True)
    if sizes.max() < count:
        raise DataError(
            "no class has as many rows as there are folds",
            where=path,
            got=f"at most {sizes.max()} rows of a class",
            expected=f"at least {count}",
        )
    small = names[sizes < count].tolist()
    if small:
        notes.append(f"fewer rows than folds, so not in every fold: {', '.join(small[:_SHOWN])}")
    fold = np.zeros(len(texts), dtype=np.int64)
    with warnings.catch_warnings():
        # What it warns of, small classes, is in the notes with their names.
        warnings.simplefilter("ignore", UserWarning)
        folds = StratifiedKFold(n_splits=count, shuffle=True, random_state=seed)
        for number, (_, rows) in enumerate(folds.split(texts, texts)):
            fold[rows] = number
    return [int(number) for number in fold]


def _shuffled_folds(rows: int, count: int, seed: int) -> tuple[list[int], list[int]]:
    """(the rows shuffled, the fold of each)."""
    from sklearn.utils import shuffle

    order = shuffle(np.arange(rows), random_state=seed)
    parts = np.array_split(order, count)
    return order.tolist(), [number for number, part in enumerate(parts) for _ in part]


def _write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        ["" if cell is None else cell for cell in row]
        for row in zip(*columns.values(), strict=True)
    )
    try:
        data = stream.getvalue().encode()
    except UnicodeEncodeError as error:
        raise DataError(
            "a file name is not UTF-8",
            where=path,
            got=repr(error.object[max(0, error.start - 40) : error.end]),
            hint="rename the file",
        ) from error
    write_bytes(path, data)
