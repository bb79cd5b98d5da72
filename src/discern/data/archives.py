"""Tar archives of images, read in place: never unpacked to files.

A plain tar is mapped and read by offset. A compressed one is decompressed once to one plain tar in
the cache. Only regular files count: links and special entries are left out and counted.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
import unicodedata
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from discern.base.errors import DataError
from discern.base.files import atomic_file, cache_folder, hash_json
from discern.data.listing import SUFFIXES, Listing, labels_from_paths
from discern.data.manifest import Locations

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
# A compressed archive may not grow beyond this multiple of its size: a bomb, not images.
LARGEST_RATIO = 200
_CHUNK = 1 << 20


def is_tar(path: Path) -> bool:
    """True if the name is that of a tar archive."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def plain_tar(path: Path) -> Path:
    """`path` itself, or a decompressed copy of it in the cache, made once. Raises DataError."""
    if not path.name.lower().endswith((".gz", ".tgz")):
        return path
    status = path.stat()
    key = hash_json([str(path.absolute()), status.st_size, status.st_mtime_ns])[:32]
    target = cache_folder("containers") / f"{key}.tar"
    if target.exists():
        return target
    free = shutil.disk_usage(target.parent).free
    written = 0
    try:
        with gzip.open(path, "rb") as source, atomic_file(target) as stream:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                if written > LARGEST_RATIO * status.st_size or written > free:
                    raise DataError(
                        "the archive grows too large when decompressed",
                        where=path,
                        got=f"more than {written / 1e9:.1f} GB",
                        expected=f"at most {LARGEST_RATIO} times its size, and room on the disk",
                    )
                stream.write(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the archive cannot be decompressed: {error}", where=path) from error
    return target


def list_tar(path: Path) -> Listing:
    """The images in a tar archive. Raises DataError."""
    plain = plain_tar(path)
    names: list[str] = []
    offsets: list[int] = []
    lengths: list[int] = []
    other = 0
    try:
        with tarfile.open(plain, "r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                if not member.isreg():
                    other += 1
                    continue
                name = _safe_name(member.name, path)
                if name is None or PurePosixPath(name).suffix.lower() not in SUFFIXES:
                    continue
                names.append(name)
                offsets.append(member.offset_data)
                lengths.append(member.size)
    except tarfile.TarError as error:
        raise DataError(f"the archive cannot be read: {error}", where=path) from error
    if not names:
        raise DataError("there are no images in the archive", where=path)
    order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    locations = Locations(
        np.array(names, dtype=np.str_),
        np.zeros(len(names), dtype=np.int32),
        np.array(offsets, dtype=np.int64),
        np.array(lengths, dtype=np.int64),
        (str(plain.absolute()),),
    ).select(order)
    labels, split, layout = labels_from_paths([str(name) for name in locations.paths])
    notes = (f"{other} links or special entries in the archive were left out",) if other else ()
    return Listing(
        locations=locations,
        labels=[None if label is None else unicodedata.normalize("NFC", label) for label in labels],
        split=split,
        root=path.absolute().parent,
        layout=f"archive of {layout}, {len(names)} images",
        name=path.name.split(".")[0],
        notes=notes,
    )


def _safe_name(name: str, path: Path) -> str | None:
    """A member's name without `./`, None if hidden. Raises DataError for a path out of it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise DataError("an entry of the archive leads out of it", where=path, got=name)
    if not parts or any(part.startswith(".") for part in parts):
        return None
    return "/".join(parts)
