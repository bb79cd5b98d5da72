"""Files that hold many images: the listing of their spans, and plain copies in the cache.

What is compressed, or is not in one piece, is written once to a plain tar in the cache; after that
every image is a span of bytes that is mapped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from discern.base.errors import DataError
from discern.base.files import atomic_file, cache_folder, hash_json
from discern.data.archive_names import Limits, is_hidden, safe_name, shown
from discern.data.archive_streams import open_unpacked, tar_entries
from discern.data.listing import SPLIT_FOLDERS, SUFFIXES, Listing, labels_from_paths
from discern.data.manifest import Locations


def is_image_name(name: str) -> bool:
    """True for a file that is taken for an image: by its suffix, and not hidden."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not is_hidden(name)  # noqa: PTH122


def cached_copy(path: Path, form: str, write: Callable[[BinaryIO, Limits], None]) -> Path:
    """A tar in the cache made of `path` by `write`, once, until `path` changes.

    `form` names the way it is made. `write` gets limits that leave room on the cache's disk.
    """
    status = path.stat()
    key = hash_json([str(path.absolute()), status.st_size, status.st_mtime_ns, form])[:32]
    target = cache_folder("containers") / f"{key}.tar"
    if not target.exists():
        limits = Limits().within(shutil.disk_usage(target.parent).free)
        with atomic_file(target) as stream:
            write(stream, limits)
    return target


@contextlib.contextmanager
def plain_tar_writer(stream: BinaryIO) -> Iterator[Callable[[str, int, BinaryIO | None], None]]:
    """Write a tar to `stream`: gives a function of (name, size, bytes; None for a folder)."""
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, size: int, content: BinaryIO | None) -> None:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
            else:
                member.size = size
            archive.addfile(member, content)

        yield add


@dataclass(slots=True)
class Spans:
    """The images of one container as they are met: names, offsets and lengths in bytes.

    `folders`: of each entry and above it, of what is not hidden. `other`: links and special files.
    """

    names: list[str]
    offsets: list[int]
    lengths: list[int]
    folders: set[str]
    other: int = 0

    @classmethod
    def none(cls) -> Spans:
        """Nothing met yet."""
        return cls([], [], [], set())

    def add(self, name: str, offset: int, length: int) -> None:
        """An image."""
        self.names.append(name)
        self.offsets.append(offset)
        self.lengths.append(length)

    def add_folder(self, name: str) -> None:
        """A folder, by an entry of its own or by what is in it."""
        while name and name not in self.folders and not is_hidden(name):
            self.folders.add(name)
            name = name.rpartition("/")[0]

    def listing(self, path: Path, container: Path) -> Listing:
        """The images in `container`, which stands for the archive `path`, sorted by name.

        A folder around everything is no class. Raises DataError for none, for two of one name, and
        for a class folder without images.
        """
        if not self.names:
            raise DataError("there are no images in the archive", where=path)
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise DataError(
                "two files in the archive have the same name", where=path, got=shown(twice)
            )
        order = np.array(sorted(range(len(self.names)), key=self.names.__getitem__), dtype=np.int64)
        locations = Locations(
            np.array(self.names, dtype=np.str_),
            np.zeros(len(self.names), dtype=np.int32),
            np.array(self.offsets, dtype=np.int64),
            np.array(self.lengths, dtype=np.int64),
            (str(container.absolute()),),
        ).select(order)
        outer = _outer_folder(self.names)
        inside = [str(name).removeprefix(outer) for name in locations.paths]
        labels, split, layout = labels_from_paths(inside)
        self._check_folders(path, outer, depth=2 if (split >= 0).any() else 1)
        notes = []
        if outer:
            notes.append(f"the folder {shown(outer)} around the whole archive is no class")
        if self.other:
            notes.append(f"{self.other} links or special entries in the archive were left out")
        return Listing(
            locations=locations,
            labels=[
                None if label is None else unicodedata.normalize("NFC", label) for label in labels
            ],
            split=split,
            root=path.absolute().parent,
            layout=f"archive of {layout}, {len(self.names)} images",
            name=path.name.split(".")[0],
            notes=tuple(notes),
        )

    def _check_folders(self, path: Path, outer: str, *, depth: int) -> None:
        filled = {"/".join(name.split("/")[: outer.count("/") + depth]) for name in self.names}
        for folder in sorted(self.folders - filled):
            if folder.startswith(outer) and folder.count("/") == outer.count("/") + depth - 1:
                raise DataError(
                    "a class folder has no images",
                    where=f"{path}:{shown(folder)}",
                    hint="add images, or pack the archive without the folder",
                )


def tar_spans(plain: Path, path: Path) -> tuple[Spans, bool]:
    """The images in `plain`, and whether one of them has holes. Errors name `path`."""
    spans, holes, limits = Spans.none(), False, Limits()
    with open_unpacked(plain, limits) as stream:
        for number, (member, _) in enumerate(tar_entries(stream, path, contents=False), 1):
            limits.check_entry(member.name, member.size, number, path)
            name = safe_name(member.name, path, limits)
            if member.isdir():
                spans.add_folder(name)
            elif not member.isreg():
                spans.other += 1
            else:
                spans.add_folder(name.rpartition("/")[0])
                if is_image_name(name):
                    spans.add(name, member.offset_data, member.size)
                    holes = holes or member.issparse()
    return spans, holes


def _outer_folder(names: list[str]) -> str:
    """`pets/` if all lies in the folder pets and classes are below it; else empty.

    Archives of one folder are mostly packed with it; taken as they are they would have one class.
    """
    folder = os.path.commonpath([name.rpartition("/")[0] for name in names])
    outer = ""
    for part in folder.split("/") if folder else ():
        below = [name[len(outer) + len(part) + 1 :] for name in names]
        if part.casefold() in SPLIT_FOLDERS or not all("/" in name for name in below):
            break
        outer += f"{part}/"
    return outer
