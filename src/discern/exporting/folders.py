"""Replacing a finished folder by a newer one without a moment in which a reader sees a part."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from discern.base.errors import RunError
from discern.base.files import atomic_folder, sync_folder, temporary_sibling


@contextlib.contextmanager
def replaced_folder(path: Path, *, marker: str) -> Iterator[Path]:
    """Fill a temporary folder that takes the name `path` when the block ends, or vanishes.

    A folder already at `path` is kept until the new one is complete and durable, then removed. It
    is replaced only if it is empty or holds the file `marker`, so that no folder of another kind
    is ever deleted. Raises RunError otherwise.
    """
    _check_replaceable(path, marker)
    fresh = temporary_sibling(path)
    with atomic_folder(fresh) as folder:
        yield folder
    old = temporary_sibling(path)
    try:
        if path.exists():
            os.rename(path, old)
        os.rename(fresh, path)
    except OSError:
        if old.exists() and not path.exists():
            os.rename(old, path)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    sync_folder(path.parent)
    if old.exists():
        shutil.rmtree(old)


def _check_replaceable(path: Path, marker: str) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise RunError("A file is in the way of a folder", where=path, hint="choose another name")
    if any(path.iterdir()) and not (path / marker).is_file():
        raise RunError(
            "The folder holds something else and is not overwritten",
            where=path,
            expected=f"no folder, an empty one, or one with {marker}",
            hint="choose another name, or move the folder away",
        )
