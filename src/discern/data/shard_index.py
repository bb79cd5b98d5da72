"""What stands beside packed data: the index of one shard, and the record of the whole data set.

Owns `NAME.index.json` (where each image lies, its SHA-256, the file's own) and `dataset.json`
(class names in order, the split of each file). Both are optional for readers: a shard without them
is still a plain WebDataset or RecordIO file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from discern.base.errors import DataError
from discern.base.files import write_bytes, write_json

INDEX_SUFFIX: Final = ".index.json"
DATASET_FILE: Final = "dataset.json"
# What an unfinished pack has done so far: see `pack_state`.
STATE_FILE: Final = ".packing.json"
# The index of a folder of image files lies in it.
FOLDER_INDEX: Final = "images" + INDEX_SUFFIX
_VERSION: Final = 1
# Images' own digests are cut to as many hex digits as ids have: see `manifest.unique_ids`.
DIGEST_DIGITS: Final = 16


class IndexedImage(NamedTuple):
    """One image of a packed file.

    `id`: in its manifest. `key`: its member's name without the ending, or its record's number.
    `path`: where it came from. `offset`, `length`: of its bytes (a tar) or its record (a `.rec`).
    `digest`: first 16 hex digits of the SHA-256 of its bytes. `label`: a class number, None where
    there is none, or a list with a value per head.
    """

    id: str
    key: str
    path: str
    offset: int
    length: int
    digest: str
    label: Any


def refuse_unfinished(folder: Path) -> None:
    """Raise DataError if a pack into `folder` was stopped: a part would be taken for the whole."""
    if (folder / STATE_FILE).exists():
        raise DataError(
            "the pack in this folder is unfinished",
            where=folder,
            hint="the same `discern data pack` (or unpack) command again goes on with it",
        )


@dataclass(slots=True)
class ShardIndex:
    """The images of one packed file, in its order; its size in bytes and its own SHA-256."""

    size: int = 0
    sha256: str = ""
    images: list[IndexedImage] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)


_COLUMNS: Final = IndexedImage._fields


def index_path(packed: Path) -> Path:
    """The index file of a packed file: `train-00000.tar` has `train-00000.tar.index.json`."""
    if packed.is_dir():
        return packed / FOLDER_INDEX
    return packed.with_name(packed.name + INDEX_SUFFIX)


def write_index_file(packed: Path, index: ShardIndex) -> None:
    """Write the index beside `packed`, atomically; equal content gives equal bytes."""
    record = {
        "discern_index": _VERSION,
        "file": "." if packed.is_dir() else packed.name,
        "size": index.size,
        "sha256": index.sha256,
        "images": len(index),
        "columns": {
            name: [image[place] for image in index.images] for place, name in enumerate(_COLUMNS)
        },
    }
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Bytes of file names that are no UTF-8 travel as surrogates, which `json` reads back.
    write_bytes(index_path(packed), text.encode("utf-8", "surrogatepass") + b"\n")


def read_index_file(packed: Path) -> ShardIndex | None:
    """The index beside `packed`, or None where there is none. Raises DataError if it is damaged."""
    path = index_path(packed)
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(record, dict) or "discern_index" not in record:
        raise _damaged(path, "not an index of Discern")
    _check_version(path, record["discern_index"])
    columns = record.get("columns")
    if not isinstance(columns, dict):
        raise _damaged(path, "no columns")
    lists = [columns.get(name) for name in _COLUMNS]
    counts = {len(column) if isinstance(column, list) else -1 for column in lists}
    if counts != {record.get("images")}:
        raise _damaged(path, f"columns of {sorted(counts)} entries for {record.get('images')}")
    images = [IndexedImage(*values) for values in zip(*map(_as_list, lists), strict=True)]
    for image in images:
        for value in (image.offset, image.length):
            if not isinstance(value, int) or value < 0:
                raise _damaged(path, f"offset {image.offset}, length {image.length}")
    return ShardIndex(int(record.get("size", -1)), str(record.get("sha256", "")), images)


def _as_list(column: Any) -> list[Any]:
    return column if isinstance(column, list) else []


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedSet:
    """The record of a packed data set. `files`: split of each file by name, None where unsplit.

    `heads`: name, kind and class names of each label column, in label order. `request`: hash of
    what was packed and how. `problems`: kind, path and text of each image that was left out.
    `beside`: SHA-256 of each index and list beside the packed files, by name.
    """

    format: str
    heads: tuple[dict[str, Any], ...]
    files: dict[str, str | None]
    images: int
    request: str = ""
    problems: tuple[dict[str, str], ...] = ()
    beside: dict[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names if there is one head."""
        return tuple(self.heads[0]["classes"]) if len(self.heads) == 1 else None


def write_packed_set(folder: Path, record: PackedSet) -> None:
    """Write `dataset.json` into `folder`, atomically."""
    write_json(
        folder / DATASET_FILE,
        {
            "discern_packed": _VERSION,
            "format": record.format,
            "images": record.images,
            "heads": list(record.heads),
            "files": record.files,
            "request": record.request,
            "problems": list(record.problems),
            "beside": record.beside,
        },
    )


def read_packed_set(folder: Path) -> PackedSet | None:
    """The record in `folder`; None for no file, or another program's `dataset.json`.

    Raises DataError for a file of ours that is damaged.
    """
    path = folder / DATASET_FILE
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(record, dict) or "discern_packed" not in record:
        return None
    _check_version(path, record["discern_packed"])
    try:
        return PackedSet(
            format=str(record["format"]),
            heads=tuple(
                {"name": str(h["name"]), "kind": str(h["kind"]), "classes": list(h["classes"])}
                for h in record["heads"]
            ),
            files=dict(record["files"]),
            images=int(record["images"]),
            request=str(record["request"]),
            problems=tuple(
                {key: str(problem[key]) for key in ("kind", "path", "text")}
                for problem in record["problems"]
            ),
            beside={str(name): str(value) for name, value in record.get("beside", {}).items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, repr(error)) from error


def _check_version(path: Path, version: object) -> None:
    if version != _VERSION:
        newer = isinstance(version, int) and version > _VERSION
        raise DataError(
            "the packed data was written by another version of Discern",
            where=path,
            got=f"version {version}",
            expected=f"version {_VERSION}",
            hint="upgrade Discern" if newer else None,
        )


def _damaged(path: Path, got: str) -> DataError:
    return DataError(
        "the file beside the packed data is damaged",
        where=path,
        got=got,
        hint="remove it: the packed files can be read without it; or pack again",
    )
