"""Unpacking an archive to a folder: whole or not at all, and nothing but files and folders.

Own extractor: the standard library's follows links out of the folder. Here no link is ever made,
so none can be followed. Everything is written to a temporary folder beside the target, which takes
the target's name at the end; a killed extraction leaves no target, and its leftovers go at the next
one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from discern.base.errors import DataError
from discern.data.archive_names import Limits, NameCheck, safe_name, shown
from discern.data.archive_streams import (
    CHUNK,
    Progress,
    archive_kind,
    damage_told,
    open_unpacked,
    tar_entries,
)
from discern.data.whole_folders import whole_folder
from discern.data.zip_files import open_zip

# Set-id and execute bits never come out of an archive; the user's umask takes away more.
FILE_MODE: Final = 0o644
FOLDER_MODE: Final = 0o755
# A disk is not filled to the brim: others write there, too.
_SPARE_BYTES: Final = 64 << 20
_LISTED: Final = 20
_ARCHIVES: Final = (
    ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".zip", ".rar", ".7z",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractReport:
    """What was unpacked. `unpacked_bytes`: of all files. `skipped`: links and special entries.

    `data`: the folder to name as DATA: `folder`, or the only folder in it. `nested`: archives among
    the files; they are not opened.
    """

    archive: Path
    folder: Path
    data: Path
    files: int
    folders: int
    unpacked_bytes: int
    skipped: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As plain JSON values; of long lists the first 20 and their counts."""
        return {
            "archive": str(self.archive),
            "folder": str(self.folder),
            "data": str(self.data),
            "files": self.files,
            "folders": self.folders,
            "bytes": self.unpacked_bytes,
            "skipped": len(self.skipped),
            "skipped_entries": list(self.skipped[:_LISTED]),
            "nested": len(self.nested),
            "nested_archives": list(self.nested[:_LISTED]),
        }


def extract_archive(
    path: Path | str,
    out: Path | str,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
    skip_links: bool = False,
    check: Callable[[Path], None] | None = None,
) -> ExtractReport:
    """Unpack a tar (plain, gz, bz2, xz, zst) or zip into the new folder `out`.

    Files get mode 0644, folders 0755, less the umask. `progress`: (bytes of the archive read, its
    size). `check` sees the unpacked folder before it takes its name; what it raises undoes all.
    Raises DataError, and leaves nothing, if `out` is there with something in it; if an entry leads
    out, shares its name with another (also by case, Unicode form, or dots at the end), is a link or
    device (with `skip_links` these are left out and listed); beyond `limits` or the free disk; for
    an encrypted zip, a wrong sum, a cut.
    """
    path, out = Path(path), Path(out)
    kind = archive_kind(path)
    with whole_folder(out) as temporary:
        free = shutil.disk_usage(temporary).free - _SPARE_BYTES
        limits = (limits or Limits()).within(max(free, 0))
        writer = _Writer(path, temporary, limits, skip_links=skip_links)
        if kind == "zip":
            _unpack_zip(writer, progress)
        else:
            _unpack_tar(writer, progress)
        writer.refuse_special()
        if check is not None:
            check(temporary)
        inner = data_folder(temporary).relative_to(temporary)
    return ExtractReport(
        archive=path,
        folder=out,
        data=out / inner,
        files=writer.files,
        folders=len(writer.folders) - 1,
        unpacked_bytes=writer.unpacked_bytes,
        skipped=tuple(writer.special),
        nested=tuple(writer.nested),
    )


def data_folder(folder: Path) -> Path:
    """`folder`, or, where it holds nothing but one folder (of folders), the innermost such."""
    while True:
        inside = [
            entry for entry in folder.iterdir() if entry.name not in ("__MACOSX", ".DS_Store")
        ]
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        if not any(entry.is_dir() for entry in inside[0].iterdir()):
            return folder
        folder = inside[0]


class _Writer:
    """Writes entries below `root` and keeps the account."""

    def __init__(self, path: Path, root: Path, limits: Limits, *, skip_links: bool) -> None:
        self.path, self.root, self.limits, self.skip_links = path, root, limits, skip_links
        self.files = self.entries = self.unpacked_bytes = 0
        self.folders = {""}
        self.special: list[str] = []
        self.nested: list[str] = []
        self.names = NameCheck(path)

    def enter(self, name: str, size: int) -> str:
        """The safe name of the next entry, checked against the limits."""
        self.entries += 1
        self.limits.check_entry(name, size, self.entries, self.path)
        return safe_name(name, self.path, self.limits)

    def add_special(self, name: str) -> None:
        """Note a link, device or FIFO; it is never made."""
        self.special.append(name)

    @property
    def writes(self) -> bool:
        """False once it is clear that the archive is refused: the rest is only counted."""
        return self.skip_links or not self.special

    def add_folder(self, name: str) -> None:
        """Make the folder `name` and those above it."""
        if name:
            self.names.add(name, folder=True)
        if self.writes and name not in self.folders:
            self.add_folder(name.rpartition("/")[0])
            os.mkdir(self.root / name, FOLDER_MODE)  # noqa: PTH102 - hot
            self.folders.add(name)

    def add_file(self, name: str, size: int, content: BinaryIO, packed: int) -> None:
        """Write a file of `size` bytes. `packed`: bytes of the archive, for the ratio."""
        if not name:
            raise DataError("an entry of the archive has no name", where=self.path)
        self.names.add(name)
        if not self.writes:
            return
        self.add_folder(name.rpartition("/")[0])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(f"{self.root}/{name}", flags, FILE_MODE)
        try:
            received = 0
            while chunk := content.read(CHUNK):
                received += len(chunk)
                self.unpacked_bytes += len(chunk)
                if received > size:
                    break
                self.limits.check_total(self.unpacked_bytes, packed, self.path)
                _write_all(handle, chunk)
        finally:
            os.close(handle)
        if received != size:
            raise DataError(
                "a file in the archive has not the length that its entry tells",
                where=f"{self.path}: {shown(name)}",
                got=f"{received} bytes",
                expected=f"{size} bytes",
                hint="the archive is damaged: get it once more",
            )
        self.files += 1
        if name.lower().endswith(_ARCHIVES):
            self.nested.append(name)

    def refuse_special(self) -> None:
        """Raise DataError if there were links or devices and these are not to be skipped."""
        if not self.writes:
            raise DataError(
                f"the archive has {len(self.special)} links or special entries",
                where=self.path,
                got=", ".join(shown(name) for name in self.special[:5]),
                expected="only files and folders",
                hint="pack it again with the files themselves (tar --dereference), or leave the"
                " links out with --skip-links",
            )


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _unpack_tar(writer: _Writer, progress: Progress | None) -> None:
    with open_unpacked(writer.path, writer.limits) as stream:
        told = 0
        total = stream.packed_bytes
        for member, content in tar_entries(stream, writer.path):
            name = writer.enter(member.name, member.size)
            if member.isdir():
                writer.add_folder(name)
            elif member.isreg():
                with damage_told(writer.path):
                    writer.add_file(name, member.size, content, total)
            else:
                writer.add_special(name)
            if progress is not None and stream.packed_position() - told > total // 200:
                told = stream.packed_position()
                progress(min(told, total), total)
    if progress is not None:
        progress(total, total)


def _unpack_zip(writer: _Writer, progress: Progress | None) -> None:
    archive, reader = open_zip(writer.path, writer.limits)
    with archive:
        total = writer.path.stat().st_size
        done = told = 0
        for member in reader.members:
            name = writer.enter(member.name, member.size)
            done += member.packed
            if member.kind == "folder":
                writer.add_folder(name)
            elif member.kind == "special":
                writer.add_special(name)
            else:
                with reader.content(member) as content:
                    writer.add_file(name, member.size, content, total)
            if progress is not None and done - told > total // 200:
                told = done
                progress(min(done, total), total)
    if progress is not None:
        progress(total, total)
