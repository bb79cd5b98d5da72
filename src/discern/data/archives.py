"""Archives of images, read in place: never unpacked to files.

A plain tar is mapped and read by offset. A compressed one, and one that holds files with holes, is
written once as one plain tar to the cache. Only regular files count: links and special entries are
left out and counted. Zips: see `zip_files`.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

from discern.data.archive_names import Limits, safe_name
from discern.data.archive_streams import (
    CHUNK,
    archive_kind,
    damage_told,
    open_unpacked,
    tar_entries,
)
from discern.data.containers import cached_copy, is_image_name, plain_tar_writer, tar_spans
from discern.data.listing import Listing
from discern.data.zip_files import ZIP_SUFFIXES, list_zip

TAR_SUFFIXES: Final = (
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst",
)  # fmt: skip
ARCHIVE_SUFFIXES: Final = (*TAR_SUFFIXES, *ZIP_SUFFIXES)


def is_tar(path: Path) -> bool:
    """True if the name is that of a tar archive, compressed or not."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def is_archive(path: Path) -> bool:
    """True if the name is that of an archive that can be read: tar in its forms, or zip."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def list_archive(path: Path) -> Listing:
    """The images in an archive of any kind, which its content tells. Raises DataError."""
    return list_zip(path) if archive_kind(path) == "zip" else list_tar(path)


def plain_tar(path: Path) -> Path:
    """`path` itself, or a decompressed copy of it in the cache, made once. Raises DataError."""
    if archive_kind(path) == "tar":
        return path

    def decompress(stream: BinaryIO, limits: Limits) -> None:
        with open_unpacked(path, limits) as source, damage_told(path):
            while chunk := source.read(CHUNK):
                stream.write(chunk)

    return cached_copy(path, "plain", decompress)


def list_tar(path: Path) -> Listing:
    """The images in a tar archive, compressed or not. Raises DataError."""
    plain = plain_tar(path)
    spans, holes = tar_spans(plain, path)
    if holes:
        plain = cached_copy(path, "filled", lambda stream, limits: _fill(plain, stream, limits))
        other = spans.other
        spans, _ = tar_spans(plain, path)
        spans.other = other
    return spans.listing(path, plain)


def _fill(plain: Path, target: BinaryIO, limits: Limits) -> None:
    """Write the images of `plain` to `target`, each in one piece."""
    written = 0
    with open_unpacked(plain, limits) as source, plain_tar_writer(target) as add:
        for member, content in tar_entries(source, plain):
            name = safe_name(member.name, plain, limits)
            if member.isdir():
                add(name, 0, None)
            elif member.isreg() and is_image_name(name):
                written += member.size
                limits.check_total(written, source.packed_bytes, plain)
                with damage_told(plain):
                    add(name, member.size, content)
