"""Zip archives: their directory under strict rules, and images read in place.

Stored images are spans of the zip itself. If any image is compressed, all are written once to a
plain tar in the cache, their sums checked. The directory's words are not believed: the local
headers must agree with it, and no two entries may share bytes.
"""

from __future__ import annotations

import contextlib
import mmap
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from discern.base.errors import DataError
from discern.data.archive_names import Limits, safe_name, shown
from discern.data.archive_streams import DAMAGE, archive_kind
from discern.data.containers import Spans, cached_copy, is_image_name, plain_tar_writer, tar_spans
from discern.data.listing import Listing

ZIP_SUFFIXES: Final = (".zip",)
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_ENCRYPTED: Final = 0x1
_UTF8: Final = 0x800
_METHODS: Final = (
    zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ZipMember:
    """An entry: safe `name`; `kind` file, folder or special; sizes and place of its data."""

    name: str
    kind: str
    size: int
    packed: int
    offset: int
    stored: bool
    number: int


class ZipReader:
    """An open zip: its checked entries, and the bytes of each."""

    def __init__(self, archive: zipfile.ZipFile, path: Path, limits: Limits) -> None:
        self._archive, self._path = archive, path
        self._infos = archive.infolist()
        self.members = _checked_members(self._infos, path, limits)

    @contextlib.contextmanager
    def content(self, member: ZipMember) -> Iterator[BinaryIO]:
        """The member's bytes. Raises DataError, also from within the block, for damage."""
        try:
            with self._archive.open(self._infos[member.number]) as stream:
                yield cast("BinaryIO", stream)
        except (*DAMAGE, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(
                "a file in the zip is damaged",
                where=f"{self._path}: {shown(member.name)}",
                got=error,
                hint="get the archive once more",
            ) from error


def open_zip(path: Path, limits: Limits) -> tuple[zipfile.ZipFile, ZipReader]:
    """(the open zip, to be closed by the caller; its reader).

    Raises DataError if the zip is cut off, encrypted, forged, beyond `limits` by its directory, or
    packed by a method that is not known.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (*DAMAGE, zipfile.BadZipFile, NotImplementedError, struct.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"the zip is damaged or cut off: {error}", where=path, hint="get it once more"
        ) from error
    try:
        return archive, ZipReader(archive, path, limits)
    except BaseException:
        archive.close()
        raise


def _checked_members(infos: list[zipfile.ZipInfo], path: Path, limits: Limits) -> list[ZipMember]:
    members: list[ZipMember] = []
    total = 0
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, info in enumerate(infos):
            _check_readable(info, path)
            limits.check_entry(info.filename, info.file_size, number + 1, path)
            raw, name = _names(info)
            total += info.file_size
            members.append(
                ZipMember(
                    name=safe_name(name, path, limits),
                    kind=_kind(info),
                    size=info.file_size,
                    packed=info.compress_size,
                    offset=_data_offset(data, info, raw, path),
                    stored=info.compress_type == zipfile.ZIP_STORED,
                    number=number,
                )
            )
        limits.check_total(total, len(data), path)
    _check_apart(infos, members, path)
    return members


def _check_readable(info: zipfile.ZipInfo, path: Path) -> None:
    where = f"{path}: {shown(info.filename)}"
    if info.flag_bits & _ENCRYPTED:
        raise DataError(
            "the zip is encrypted", where=where, hint="unpack it with its password first"
        )
    if info.compress_type not in _METHODS:
        raise DataError(
            "a file in the zip is packed by a method that is not known",
            where=where,
            got=f"method {info.compress_type}",
            expected="stored, deflate, bzip2 or LZMA",
        )
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise DataError("a file in the zip has two sizes", where=where)


def _kind(info: zipfile.ZipInfo) -> str:
    mode = stat.S_IFMT(info.external_attr >> 16)
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "special"
    return "folder" if info.is_dir() or mode == stat.S_IFDIR else "file"


def _names(info: zipfile.ZipInfo) -> tuple[bytes, str]:
    """(the name's bytes, the name). Without a mark they are UTF-8 if they can be, else cp437.

    The Mac's archiver and many others write UTF-8 without marking it.
    """
    if info.flag_bits & _UTF8:
        return info.orig_filename.encode(), info.orig_filename
    raw = info.orig_filename.encode("cp437")
    try:
        return raw, raw.decode()
    except UnicodeDecodeError:
        return raw, info.orig_filename


def _data_offset(data: mmap.mmap, info: zipfile.ZipInfo, name: bytes, path: Path) -> int:
    """Where the entry's data begin, by its local header, which must agree with the directory."""
    start = info.header_offset
    head = data[start : start + _LOCAL.size] if 0 <= start <= len(data) else b""
    if len(head) == _LOCAL.size:
        fields = _LOCAL.unpack(head)
        begin = start + _LOCAL.size
        offset: int = begin + fields[9] + fields[10]
        if (
            fields[0] == b"PK\x03\x04"
            and data[begin : begin + fields[9]] == name
            and fields[3] == info.compress_type
            and offset + info.compress_size <= len(data)
        ):
            return offset
    raise DataError(
        "the zip's directory does not fit its entries",
        where=f"{path}: {shown(info.filename)}",
        hint="it is damaged or forged: get it once more",
    )


def _check_apart(infos: list[zipfile.ZipInfo], members: list[ZipMember], path: Path) -> None:
    """No two entries may share bytes: a small zip could unpack to any size."""
    end = 0
    for member in sorted(members, key=lambda member: member.offset):
        if infos[member.number].header_offset < end:
            raise DataError(
                "entries of the zip share bytes: it is forged",
                where=f"{path}: {shown(member.name)}",
            )
        end = member.offset + member.packed


def list_zip(path: Path) -> Listing:
    """The images in a zip, read in place. Raises DataError."""
    archive_kind(path)
    archive, reader = open_zip(path, Limits())
    with archive:
        spans = Spans.none()
        images = []
        for member in reader.members:
            if member.kind == "special":
                spans.other += 1
                continue
            file = member.kind == "file"
            spans.add_folder(member.name.rpartition("/")[0] if file else member.name)
            if file and is_image_name(member.name):
                images.append(member)
        if all(member.stored for member in images):
            for member in images:
                spans.add(member.name, member.offset, member.size)
            return spans.listing(path, path)
        return _converted(reader, images, spans, path)


def _converted(reader: ZipReader, images: list[ZipMember], spans: Spans, path: Path) -> Listing:
    """The same with the images in a plain tar in the cache, in the directory's order."""

    def write(stream: BinaryIO, limits: Limits) -> None:
        limits.check_total(sum(image.size for image in images), path.stat().st_size, path)
        with plain_tar_writer(stream) as add:
            for image in images:
                with reader.content(image) as content:
                    add(image.name, image.size, content)

    plain = cached_copy(path, "zip", write)
    copied, _ = tar_spans(plain, path)
    copied.folders |= spans.folders
    copied.other = spans.other
    return copied.listing(path, plain)
