"""An archive's bytes: its kind by content, decompressed and counted, its tar entries in order.

Tar headers are read by the standard library under stricter rules: a damaged header, a missing end
mark or a cut is an error, where the library alone would take it for the archive's end.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn, Self, cast

from discern.base.errors import DataError
from discern.data.archive_names import Limits, shown

Progress = Callable[[int, int], None]

CHUNK: Final = 1 << 20
_BLOCK: Final = 512
_MAGIC: Final = (
    (b"\x1f\x8b", "gz"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
)
_FOREIGN: Final = ((b"Rar!", "rar"), (b"7z\xbc\xaf\x27\x1c", "7z"))
# Headers that say something about the next one: at most so many in a row, and so large. GNU and
# pax need two or three of some hundred bytes.
_MOST_HEADERS: Final = 16
_LARGEST_HEADER: Final = 1 << 20
_ABOUT_NEXT: Final = frozenset((b"x", b"g", b"X", b"L", b"K"))
# What damaged or forged archives raise in the standard library.
DAMAGE: Final = (
    tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, IndexError,
    KeyError, OverflowError, RecursionError,
)  # fmt: skip


def archive_kind(path: Path) -> str:
    """tar, gz, bz2, xz, zst or zip, by the file's content; the name counts for nothing.

    Raises DataError for anything else, and a file that cannot be opened.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(_BLOCK)
    except OSError as error:
        raise DataError(f"the archive cannot be opened: {error.strerror}", where=path) from error
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    if start[257:262] == b"ustar" or _old_tar(start):
        return "tar"
    for magic, kind in _FOREIGN:
        if start.startswith(magic):
            raise DataError(
                f"{kind} archives are not read",
                where=path,
                hint=f"unpack it with the program for {kind}, or pack it as .zip or .tar.gz",
            )
    if zipfile.is_zipfile(path):
        return "zip"  # a program that unpacks itself
    text = start[:40].decode("latin1")
    raise DataError(
        "the file is no archive",
        where=path,
        got="an empty file" if not start else f"it begins with '{shown(text)}'",
        expected="tar, tar.gz, tar.bz2, tar.xz, tar.zst or zip",
        hint="it looks like a web page: the download gave an error page"
        if "<html" in text.lower() or "<!doctype" in text.lower()
        else None,
    )


def holds_archive(path: Path) -> bool:
    """True if the content is a zip or a tar, compressed or not, whatever the name."""
    try:
        if archive_kind(path) in ("zip", "tar"):
            return True
        with open_unpacked(path, Limits()) as stream, damage_told(path):
            start = stream.read(_BLOCK)
    except DataError:
        return False
    return start[257:262] == b"ustar" or _old_tar(start)


def _old_tar(start: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return start == bytes(_BLOCK)  # a tar of nothing
    return True


class Unpacked:
    """The bytes of a decompressor, read forward; counts what goes in and what comes out."""

    def __init__(self, stream: BinaryIO, raw: BinaryIO, path: Path, limits: Limits) -> None:
        self._stream, self._raw = stream, raw
        self._path, self._limits = path, limits
        self._position = 0
        self.packed_bytes = os.fstat(raw.fileno()).st_size

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer only at the end. Raises DataError for a bomb."""
        data = self._stream.read(size)
        self._position += len(data)
        if self._stream is not self._raw:
            self._limits.check_total(self._position, self.packed_bytes, self._path)
        return data

    def tell(self) -> int:
        """How many bytes came out."""
        return self._position

    def seek(self, position: int) -> int:
        """Go forward to `position`; going back is a fault of the archive."""
        if self._stream is self._raw:
            self._position = self._raw.seek(position)
            return self._position
        if position < self._position:
            msg = "its entries point back"
            raise tarfile.ReadError(msg)
        while self._position < position and self.read(min(CHUNK, position - self._position)):
            pass
        return self._position

    def packed_position(self) -> int:
        """How many bytes of the archive file were read."""
        return self._raw.tell()

    def drain(self) -> None:
        """Read to the end, so that the decompressor checks its sums. Raises DataError."""
        while chunk := self.read(CHUNK):
            if chunk.count(0) != len(chunk):
                raise DataError(
                    "there is more data after the archive's end mark",
                    where=self._path,
                    hint="were two archives joined? `tar --concatenate` joins them rightly",
                )


@contextlib.contextmanager
def open_unpacked(path: Path, limits: Limits) -> Iterator[Unpacked]:
    """The archive's bytes without compression, for reading forward. Raises DataError.

    The limits' total and ratio hold for the bytes that really come out.
    """
    kind = archive_kind(path)
    if kind == "zip":
        raise DataError("a zip archive is not a stream", where=path)
    with open(path, "rb") as raw, _decompressor(kind, raw) as stream:
        yield Unpacked(stream, raw, path, limits)


def _decompressor(kind: str, raw: BinaryIO) -> BinaryIO:
    if kind == "gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
    if kind == "bz2":
        return cast("BinaryIO", bz2.BZ2File(raw))
    if kind == "xz":
        return cast("BinaryIO", lzma.LZMAFile(raw))
    if kind == "zst":
        import pyarrow as pa

        opened = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
        return cast("BinaryIO", io.BufferedReader(opened, CHUNK))
    return raw


@contextlib.contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into a DataError naming it."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own: a full disk is no damage
        raise DataError(
            f"the archive is damaged or cut off: {error}", where=path, hint="get it once more"
        ) from error


def tar_entries(
    stream: Unpacked, path: Path, *, contents: bool = True
) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """(header, its bytes) of each entry in order; the bytes are good until the next one.

    Sparse files come out with their holes filled. The bytes of anything but a regular file are
    empty; without `contents` all are. Raises DataError for an archive that is damaged, has no end
    mark, or goes on after it.
    """
    with damage_told(path):
        archive: Any = tarfile.TarFile(
            fileobj=cast("BinaryIO", stream), tarinfo=_strict_headers(path), errorlevel=2
        )
    while True:
        with damage_told(path):
            member = archive.next()
            archive.members.clear()  # never looked up by name: millions would fill the memory
            if member is None:
                stream.drain()
                return
            _check_sparse(member, path)
            content = archive.extractfile(member) if contents and member.isreg() else None
        yield member, cast("BinaryIO", content) if content else io.BytesIO()


def _strict_headers(path: Path) -> type[tarfile.TarInfo]:
    """Headers for one archive that tell damage instead of ending the archive."""
    row = 0

    class StrictHeader(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            nonlocal row
            if len(buf) != _BLOCK:
                _tell("the archive is cut off: it has no end mark", path)
            if buf.count(0) == _BLOCK:
                if row:
                    _tell("the archive is cut off after an entry's extra header", path)
                return super().frombuf(buf, encoding, errors)  # raises the library's end of archive
            try:
                header = super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError as error:
                _tell(f"an entry's header in the archive is damaged: {error}", path)
            row = row + 1 if header.type in _ABOUT_NEXT else 0
            if row > _MOST_HEADERS or (row and header.size > _LARGEST_HEADER) or header.size < 0:
                _tell("an entry's header in the archive is forged", path)
            return header

    return StrictHeader


def _tell(what: str, path: Path) -> NoReturn:
    raise DataError(what, where=path, hint="get it once more")


def _check_sparse(member: tarfile.TarInfo, path: Path) -> None:
    """The map of a file with holes must be in order and inside the file."""
    place = 0
    for offset, size in getattr(member, "sparse", None) or ():
        if size == 0:
            continue  # unused places of the old GNU header
        if offset < place or size < 0 or offset + size > member.size:
            _tell("an entry's map of holes in the archive is forged", path)
        place = offset + size
    if member.size < 0:
        _tell("an entry's header in the archive is forged", path)
