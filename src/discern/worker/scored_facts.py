"""What is known of each scored image beside its label: size, brightness, shape, source, columns.

Owns the facts that an evaluation's slices are cut by.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.data.check import Gathered
from discern.data.head_spec import HeadSpec
from discern.data.manifest import Manifest
from discern.data.table_files import is_table, read_table
from discern.data.tables import path_column

Facts = dict[str, NDArray[Any]]


def image_facts(seen: Gathered) -> Facts:
    """Short side in pixels, aspect (width / height), brightness 0..1, each [N]."""
    height, width = (seen.sizes[:, axis].astype(np.float64) for axis in (0, 1))
    known = height > 0
    aspect = np.divide(width, height, out=np.full(len(height), np.nan), where=known)
    bright = seen.looks.luma.reshape(len(height), -1).mean(axis=1) / 255
    return {
        "short side": np.where(known, np.minimum(height, width), np.nan),
        "aspect": np.round(aspect, 3),
        "brightness": np.where(known, bright, np.nan),
    }


def manifest_facts(manifest: Manifest, rows: NDArray[np.int64], heads: Sequence[HeadSpec]) -> Facts:
    """Folder, group, origin and container of the images at `rows`, where the data has them."""
    where = manifest.locations
    folders = np.array([posixpath.dirname(str(path)) for path in where.paths[rows]])
    classes = {name for head in heads for name in head.classes}
    facts: Facts = {}
    # A folder that is named after a class says nothing that the class table does not.
    if not all(posixpath.basename(name) in classes or not name for name in np.unique(folders)):
        facts["source"] = folders
    containers = where.containers[rows]
    if len(where.container_names) > 1:
        names = np.array([*where.container_names, "files"])
        facts["source"] = names[containers]
    for name, column in (("group", manifest.group), ("origin", manifest.origin)):
        if column is not None:
            facts[name] = column[rows]
    return facts


def column_facts(
    data: str,
    wanted: Sequence[str],
    manifest: Manifest,
    rows: NDArray[np.int64],
    root: str | None = None,
) -> Facts:
    """The columns `wanted` of the table DATA, for the images at `rows`.

    `root`: where the table's paths begin, if not at its own folder. Raises ConfigError when DATA is
    no table, has no such column, or names none of the images.
    """
    if not wanted:
        return {}
    path = Path(data)
    if not (path.is_file() and is_table(path)):
        raise ConfigError(
            "only a table has columns to slice by", where="--slice-by", got=data,
            expected="a CSV, JSONL or Parquet file with a path column",
        )  # fmt: skip
    columns = read_table(path).columns
    for name in wanted:
        if name not in columns:
            raise ConfigError(
                "the table has no such column", where="--slice-by", got=name,
                expected=", ".join(columns), hint=did_you_mean(name, list(columns)),
            )  # fmt: skip
    # A manifest of several sources has paths from the file system's root on.
    base = path.absolute().parent if root is None else Path(root).expanduser().absolute()
    names = columns[path_column(columns, path)]
    place = {_plain(base, str(name)): row for row, name in enumerate(names)}
    place |= {_plain(manifest.root, str(name)): row for row, name in enumerate(names)}
    own = [_plain(manifest.root, str(name)) for name in manifest.locations.paths[rows]]
    if not any(key in place for key in own):
        raise ConfigError(
            "the table names none of the scored images", where="--slice-by", got=data,
            expected=own[0] if own else "an image",
        )  # fmt: skip
    return {
        name: _typed([columns[name][place[key]] if key in place else None for key in own])
        for name in wanted
    }


def _plain(root: Path, name: str) -> str:
    return posixpath.normpath(str(root / name))


def _typed(values: list[Any]) -> NDArray[Any]:
    """Numbers where all cells are numbers or empty, else texts."""
    try:
        return np.array([np.nan if v is None or v == "" else float(v) for v in values])
    except (TypeError, ValueError):
        return np.array(["" if value is None else str(value) for value in values])
