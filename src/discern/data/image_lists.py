"""Making `.lst` files from a folder of images, byte for byte as MXNet's im2rec makes them.

Owns the walk, the numbering of classes, the fixed shuffle and the division into files. See
`record_files` for the format of a list.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ConfigError, DataError
from discern.base.files import write_bytes
from discern.data.class_numbers import CLASSES_SUFFIX, write_class_names
from discern.data.record_files import LIST_SUFFIX, ListRow, format_list

Progress = Callable[[int, int], None]

LIST_EXTENSIONS: Final = (".jpeg", ".jpg", ".png")
# im2rec's own: every list that it shuffles is shuffled with this seed.
SHUFFLE_SEED: Final = 100
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ListReport:
    """What `make_lists` wrote: images per file, class names in order and their file, notes."""

    files: dict[str, int]
    images: int
    classes: tuple[str, ...]
    classes_file: str
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = asdict(self)
        return values | {"classes": list(self.classes), "notes": list(self.notes)}


@dataclass(slots=True)
class _Walked:
    rows: list[ListRow]
    classes: list[str]
    notes: list[str]


def make_lists(
    prefix: Path | str,
    root: Path | str,
    *,
    recursive: bool = False,
    train_ratio: float = 1.0,
    test_ratio: float = 0.0,
    chunks: int = 1,
    exts: Sequence[str] = LIST_EXTENSIONS,
    shuffle: bool = True,
    progress: Progress | None = None,
) -> ListReport:
    """Write the lists of the images below `root`, and `PREFIX_classes.txt`, a class per line.

    `recursive`: every folder that directly holds images is a class, numbered in sorted walk order;
    otherwise the images in `root` itself, all of class 0. Links are followed, never in circles.
    `exts`: endings in lower case. Files: `PREFIX.lst`, or if train_ratio < 1 `PREFIX_train.lst`,
    `_test` if test_ratio > 0 and `_val` if a rest is left; in several chunks `PREFIX_0_train.lst`.
    `progress` gets images found so far, of an unknown total (0).

    Raises ConfigError for ratios or chunks out of range, DataError for no images and for a name
    that does not fit into a list; then nothing is written.
    """
    _check_request(train_ratio, test_ratio, chunks, exts)
    root, prefix = Path(root), os.fspath(prefix)
    if not prefix or prefix.endswith("/"):
        raise ConfigError(
            "a prefix is the beginning of file names", got=prefix, expected="such as lists/pets"
        )
    if not root.is_dir():
        raise DataError("there is no such folder", where=root)
    walked = _walk(root, frozenset(exts), recursive=recursive, progress=progress)
    if not walked.rows:
        hint = None if recursive else "--recursive looks into the folders below it"
        raise DataError(
            "there are no images in the folder", where=root, expected=", ".join(exts), hint=hint
        )
    rows = walked.rows
    if shuffle:
        random.Random(SHUFFLE_SEED).shuffle(rows)  # noqa: S311 - equal to im2rec, not secret
    lists = divide_rows(rows, train_ratio, test_ratio, chunks)
    contents = {prefix + ending: format_list(part, root) for ending, part in lists.items()}
    classes_file = prefix + CLASSES_SUFFIX
    write_class_names(Path(classes_file), walked.classes)
    for name, data in contents.items():
        write_bytes(Path(name), data)
    return ListReport(
        files={prefix + ending: len(part) for ending, part in lists.items()},
        images=len(rows),
        classes=tuple(walked.classes),
        classes_file=classes_file,
        notes=(*walked.notes, *_left_over(Path(prefix), set(contents))),
    )


def divide_rows(
    rows: Sequence[ListRow], train_ratio: float, test_ratio: float, chunks: int
) -> dict[str, Sequence[ListRow]]:
    """The rows of each list by the ending of its name, as im2rec divides them.

    Chunks have ceil(N / chunks) rows, the last ones fewer or none. In each chunk test comes first,
    then train, then val; their sizes are rounded down, counted from the size of a full chunk.
    """
    size = -(-len(rows) // chunks)
    lists: dict[str, Sequence[ListRow]] = {}
    for number in range(chunks):
        chunk = rows[number * size : (number + 1) * size]
        name = f"_{number}" if chunks > 1 else ""
        if train_ratio == 1.0:
            lists[f"{name}{LIST_SUFFIX}"] = chunk
            continue
        test = int(size * test_ratio)
        train = test + int(size * train_ratio)
        if test_ratio:
            lists[f"{name}_test{LIST_SUFFIX}"] = chunk[:test]
        if train_ratio + test_ratio < 1.0:
            lists[f"{name}_val{LIST_SUFFIX}"] = chunk[train:]
        lists[f"{name}_train{LIST_SUFFIX}"] = chunk[test:train]
    return lists


def _check_request(train_ratio: float, test_ratio: float, chunks: int, exts: Sequence[str]) -> None:
    if not (train_ratio >= 0 and test_ratio >= 0 and train_ratio + test_ratio <= 1 + _ROUNDING):
        raise ConfigError(
            "the shares of the lists do not fit together",
            got=f"train {train_ratio:g}, test {test_ratio:g}",
            expected="each at least 0, together at most 1; the rest is val",
        )
    if chunks < 1:
        raise ConfigError("there is no such number of chunks", got=chunks, expected="1 or more")
    for ending in exts:
        if not ending.startswith(".") or ending != ending.lower():
            raise ConfigError(
                "not an ending of file names", got=ending, expected="such as .jpg, in lower case"
            )


def _walk(
    root: Path, exts: frozenset[str], *, recursive: bool, progress: Progress | None
) -> _Walked:
    """The images with their numbers and classes, folders before what lies in them, by name."""
    walked = _Walked([], [], [])
    above: dict[str, tuple[tuple[int, int], ...]] = {str(root): ()}
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_refuse):
        here = _identity(folder)
        ancestors = above.pop(folder)
        if here in ancestors:
            walked.notes.append(f"a link leads back to a folder above it: {_below(folder, root)}")
            folders.clear()
            continue
        folders.sort()
        if not recursive:
            folders.clear()
        above |= {os.path.join(folder, name): (*ancestors, here) for name in folders}
        _take_files(folder, sorted(files), root, exts, walked)
        if progress is not None:
            progress(len(walked.rows), 0)
    if not recursive and walked.rows:
        walked.classes[:] = [root.absolute().name or "images"]
    return walked


def _take_files(
    folder: str, files: list[str], root: Path, exts: frozenset[str], walked: _Walked
) -> None:
    """Append the images directly in a folder, which is a class of its own if there are any."""
    number = len(walked.classes)
    first = len(walked.rows)
    for name in files:
        path = os.path.join(folder, name)
        if os.path.splitext(name)[1].lower() not in exts:  # noqa: PTH122 - a hot walk
            continue
        if os.path.isfile(path):  # noqa: PTH113
            walked.rows.append(ListRow(len(walked.rows), (float(number),), _below(path, root)))
        elif os.path.islink(path):  # noqa: PTH114
            walked.notes.append(f"a link leads nowhere: {_below(path, root)}")
    if len(walked.rows) > first:
        walked.classes.append(_below(folder, root))


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _below(path: str, root: Path) -> str:
    return os.path.relpath(path, root)


def _refuse(error: OSError) -> None:
    raise DataError(f"a folder cannot be read: {error.strerror}", where=error.filename) from error


def _left_over(prefix: Path, written: set[str]) -> list[str]:
    """Lists of the same prefix from another time: packing would take them, too."""
    others = sorted(
        str(path)
        for path in prefix.parent.glob(f"*{LIST_SUFFIX}")
        if path.name.startswith(prefix.name) and str(path) not in {str(Path(n)) for n in written}
    )
    if not others:
        return []
    return [f"there are other lists of this prefix, left as they are: {', '.join(others)}"]
