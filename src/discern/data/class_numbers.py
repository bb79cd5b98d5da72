"""Labels that are numbers: what columns of float32 mean, and the text files that name the classes.

Lists and records of MXNet's kind hold no class names. Owns where they are looked for, and how one
or several numbers an image become label columns.

Axes: N images, K numbers an image.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.files import write_text
from discern.data.label_columns import LabelColumn
from discern.data.manifest import MISSING

# Beside `prefix.lst` or `prefix.rec`; written by `image_lists`, then the names that others use.
CLASSES_SUFFIX: Final = "_classes.txt"
CLASSES_FILES: Final = ("classes.txt", "synset.txt")
# What MXNet's lists add to a prefix: `_train`, `_0`, `_0_train`.
_ENDINGS: Final = re.compile(r"(?:_\d+)?(?:_(?:train|val|test))?$")


def write_class_names(path: Path, names: Sequence[str]) -> None:
    """Write a name per line, in label order, atomically. Raises DataError for an odd name."""
    for name in names:
        if not name or name != name.strip() or "\n" in name or not _is_text(name):
            raise DataError(
                "a class name does not fit into a line of its own",
                where=path,
                got=repr(name),
                expected="UTF-8 text without a line break, and no space at either end",
                hint="rename the folder",
            )
    write_text(path, "".join(f"{name}\n" for name in names))


def _is_text(name: str) -> bool:
    """False for a file name whose bytes are not UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in a file of one per line, in label order, in NFC. Raises DataError."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the class names cannot be read: {error}", where=path) from error
    lines = text.rstrip().split("\n") if text.strip() else []
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name = unicodedata.normalize("NFC", line.strip())
        if not name:
            raise DataError(
                "a class has no name", where=f"{path}:{number}", expected="a name on every line"
            )
        if name in first:
            raise DataError(
                "two classes have the same name",
                where=f"{path}:{number}",
                got=f"'{name}', as in line {first[name]}",
            )
        first[name] = number
    if not first:
        raise DataError("the file of class names is empty", where=path)
    return tuple(first)


def class_names_beside(files: Sequence[Path]) -> tuple[tuple[str, ...] | None, Path | None]:
    """(class names, their file) for lists or records: `PREFIX_classes.txt`, else classes.txt, ...

    (None, None) where there is none. Raises DataError if two of `files` have different names.
    """
    found: dict[Path, tuple[str, ...]] = {}
    for file in files:
        prefix = _ENDINGS.sub("", file.stem)
        names = dict.fromkeys((file.stem + CLASSES_SUFFIX, prefix + CLASSES_SUFFIX, *CLASSES_FILES))
        place = next((p for name in names if (p := file.with_name(name)).is_file()), None)
        if place is not None and place not in found:
            found[place] = read_class_names(place)
    if len(set(found.values())) > 1:
        raise DataError(
            "files of one data set have different class names",
            got=", ".join(str(path) for path in found),
            hint="read them one by one, or make one list of names: classes.txt",
        )
    return next(((names, path) for path, names in found.items()), (None, None))


def number_columns(
    values: NDArray[np.float32], names: tuple[str, ...] | None, images: Sequence[str]
) -> tuple[LabelColumn, ...]:
    """The label columns of `values`, float32 [N, K]; `images` [N] says what each row is called.

    K = 1 is one question. More are one question with several labels an image if all values are 0
    or 1 (or NaN), else a question per column. NaN and -1 mean unlabeled. `names`: the class names
    of the one question, in label order. Raises DataError for a number that is no class.
    """
    count = values.shape[1]
    if count > 1 and (np.isin(values, (0.0, 1.0)) | np.isnan(values)).all():
        if names is not None and len(names) != count:
            raise DataError(
                "the class names do not fit the labels",
                got=f"{len(names)} names",
                expected=f"{count}: one per number of an image",
            )
        classes = names or tuple(str(number) for number in range(count))
        targets = np.array(values, dtype=np.float32)
        column = LabelColumn(
            kind="multi", classes=classes, targets=targets, ordered=True, numeric=names is None
        )
        return (column,)
    if count == 1:
        return (_single(values[:, 0], names, images, {}),)
    return tuple(
        _single(values[:, place], None, images, {"name": f"label_{place}"})
        for place in range(count)
    )


def _single(
    values: NDArray[np.float32],
    names: tuple[str, ...] | None,
    images: Sequence[str],
    name: dict[str, Any],
) -> LabelColumn:
    known = ~(np.isnan(values) | (values == MISSING))
    bad = known & ((values < 0) | (values != np.floor(values)) | np.isinf(values))
    if names is not None:
        bad |= known & (values >= len(names))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{int(bad.sum())} labels are no class numbers",
            where=images[row],
            got=f"{values[row]:g}",
            expected=f"0 to {len(names) - 1}" if names else "0, 1, 2 ...; -1 for no label",
            hint="the file of class names has too few lines" if names else None,
        )
    numbers = np.where(known, values, MISSING).astype(np.int64)
    if names is not None:
        return LabelColumn(classes=names, targets=numbers, ordered=True, **name)
    used = np.unique(numbers[known])
    targets = np.where(known, np.searchsorted(used, numbers), MISSING).astype(np.int64)
    classes = tuple(str(number) for number in used.tolist())
    return LabelColumn(classes=classes, targets=targets, numeric=True, **name)
