"""Packing into folders of image files: CLASS/image.jpg, or images beside a `metadata.jsonl`.

Owns the names of folders and files: any class or image name gives one that is safe everywhere and
its own. A part is a number of files, each put in place whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from discern.base.files import sync_folder, temporary_sibling, write_bytes
from discern.data.manifest import MISSING, Head, Manifest
from discern.data.pack_plan import Group
from discern.data.pack_writers import OpenParts, Part, Sample, append_entry, join_indexes
from discern.data.shard_index import ShardIndex, index_path, read_index_file, write_index_file

METADATA_FILE: Final = "metadata.jsonl"
_FORBIDDEN: Final = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
# Names that Windows keeps for devices, with any ending.
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_NAME_BYTES: Final = 200


def safe_component(name: str) -> str:
    """`name` as a folder or file name that is safe on every system; never hidden, never empty."""
    text = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", name)).strip().rstrip(".")
    text = re.sub(r"^\.+", "_", text)
    encoded = text.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore").rstrip(" .")
    return f"_{encoded}" if not encoded or _DEVICES.fullmatch(encoded) else encoded


def unique_names(names: Sequence[str]) -> list[str]:
    """Each name as it is, or with `-2`, `-3` ... where it, in any case, was there before."""
    seen: set[str] = set()
    result = []
    for name in names:
        chosen, number = name, 1
        while chosen.casefold() in seen:
            number += 1
            chosen = f"{name}-{number}"
        seen.add(chosen.casefold())
        result.append(chosen)
    return result


def has_class_folders(heads: tuple[Head, ...]) -> bool:
    """Whether the labels are one class an image: all else goes into a table beside the images."""
    return len(heads) == 1 and heads[0].kind == "single"


def class_folders(classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """(folder of each class, notes on those that are not called as the class is).

    Two classes that differ in case alone keep their names, as the folders that they came from.
    """
    folders: list[str] = []
    for name in classes:
        folder, number = safe_component(name), 1
        while folder in folders:
            number += 1
            folder = f"{safe_component(name)}-{number}"
        folders.append(folder)
    notes = [
        f"the folder of class {name!r} is called {folder!r}: its name is none for a folder"
        for name, folder in zip(classes, folders, strict=True)
        if unicodedata.normalize("NFC", name) != folder
    ]
    return folders, notes


def file_places(manifest: Manifest, group: Group) -> dict[int, str]:
    """Where each row of `group` goes, relative to the group's folder, without an ending.

    The rows' own file names, where these are equal in one folder `name-2`, `name-3`.
    """
    heads = manifest.heads
    folders: list[str] = []
    if has_class_folders(heads):
        names, _ = class_folders(heads[0].classes)
        numbers = heads[0].targets[group.rows].tolist()
        # An image without a class lies beside the class folders, as `folders` reads it.
        folders = ["" if number == MISSING else names[number] for number in numbers]
    else:
        folders = [""] * len(group.rows)
    rows = group.rows.tolist()
    stems = [_stem(str(manifest.locations.paths[row])) for row in rows]
    places: dict[int, str] = {}
    for folder in sorted(set(folders)):
        inside = [place for place, name in enumerate(folders) if name == folder]
        unique = unique_names([stems[place] for place in inside])
        for place, name in zip(inside, unique, strict=True):
            places[rows[place]] = f"{folder}/{name}" if folder else name
    return places


def _stem(path: str) -> str:
    base = path.rpartition("/")[2]
    stem, dot, ending = base.rpartition(".")
    # A record's number, or a name that ends in no file ending, is a stem as a whole.
    return safe_component(stem if dot and stem and len(ending) <= 5 else base)


class FolderSink(OpenParts):
    """The files of one group; every part is a number of them."""

    def __init__(
        self,
        folder: Path,
        group: Group,
        heads: tuple[Head, ...],
        done: list[Part],
        places: dict[int, str],
        *,
        own_folder: bool,
    ) -> None:
        super().__init__()
        self._out = folder
        self._name = group.name
        self._file = group.name if own_folder else "."
        self._folder = folder / self._file
        self._heads = heads
        self._places = places
        self._done = list(done)
        self._index = ShardIndex()
        self._size = 0

    @property
    def images(self) -> int:
        """Files in the current part."""
        return len(self._index)

    @property
    def size(self) -> int:
        """Bytes in the current part."""
        return self._size

    def add(self, sample: Sample) -> None:
        """Write the image's file, whole or not at all."""
        key = self._places[sample.row] + sample.packed.suffix
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folders, where a later process sweeps what this one leaves when killed.
        temporary = temporary_sibling(self._out / "image")
        with open(temporary, "xb") as stream:
            stream.write(sample.packed.data)
        os.replace(temporary, path)
        append_entry(self._index, sample, key, 0, len(sample.packed.data))
        self._size += len(sample.packed.data)

    def finish_part(self, consumed: int) -> Part:
        """Make the files so far durable, and note them."""
        folders = set()
        for image in self._index.images:
            path = self._folder / image.key
            folders |= {path.parent, self._folder, self._out}
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        for folder in sorted(folders):
            sync_folder(folder)
        self._index.size = self._size
        write_index_file(self._stretch(len(self._done)), self._index)
        part = Part(
            group=self._name,
            file=self._file,
            consumed=consumed,
            images=len(self._index),
            size=self._size,
        )
        self._done.append(part)
        self._index, self._size = ShardIndex(), 0
        return part

    def close(self) -> list[str]:
        """Write the group's index, and the table of labels where class folders cannot tell them."""
        stretches = [self._stretch(number) for number in range(len(self._done))]
        if any(part.images for part in self._done):
            # Written last: where it is, the group was closed, and its stretches may be gone.
            index = read_index_file(self._folder)
            if index is None:
                index = join_indexes(stretches)
                index.size = sum(part.size for part in self._done)
                digests = "\n".join(image.digest for image in index.images)
                index.sha256 = hashlib.sha256(digests.encode()).hexdigest()
                if not has_class_folders(self._heads):
                    write_bytes(self._folder / METADATA_FILE, self._metadata(index))
                write_index_file(self._folder, index)
        for stretch in stretches:
            index_path(stretch).unlink(missing_ok=True)
        return [self._file] if any(part.images for part in self._done) else []

    def _metadata(self, index: ShardIndex) -> bytes:
        """A JSON object a line: `file_name`, then a value per label column, names not numbers."""
        lines = []
        for image in index.images:
            row: dict[str, object] = {"file_name": image.key}
            for head, value in zip(self._heads, image.label, strict=True):
                row[head.name] = _class_names(head, value)
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        return "".join(lines).encode()

    def _stretch(self, number: int) -> Path:
        return self._out / f".{self._name}.{number:05d}"


def _class_names(head: Head, value: object) -> object:
    if isinstance(value, int):
        return head.classes[value]
    if isinstance(value, list):
        return [name for name, yes in zip(head.classes, value, strict=True) if yes]
    return None
