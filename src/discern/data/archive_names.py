"""What an archive may hold: its entries' names made safe, and the limits that stop a bomb.

One set of rules for reading in place and for extraction. A name that could lead out of the
archive's own folder on any file system is refused, and with it the whole archive: somebody made it
so. Nothing is repaired in silence but `./` and doubled slashes, and Unicode is brought to NFC.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from discern.base.errors import DataError

# Devices of Windows, whatever suffix follows: writing to one never makes a file there.
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.I | re.S)
_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")  # how Python keeps bytes that are no UTF-8
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_SEPARATORS: Final = re.compile(r"[/\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is taken from an archive at most. Source of the numbers: the archive study's rules.

    `entries`: of any kind. `entry_bytes`: of one file. `total_bytes`: of all files, None for what
    the disk has free. `ratio`: unpacked to packed bytes, asked beyond `ratio_floor_bytes` unpacked.
    `depth`: folders above a file. `component_bytes`, `path_bytes`: of a name in UTF-8.
    """

    entries: int = 2_000_000
    entry_bytes: int = 2 << 30
    total_bytes: int | None = None
    ratio: float = 200.0
    ratio_floor_bytes: int = 64 << 20
    depth: int = 32
    component_bytes: int = 240
    path_bytes: int = 1024

    def within(self, total_bytes: int) -> Limits:
        """The same, with at most `total_bytes` in all."""
        least = total_bytes if self.total_bytes is None else min(total_bytes, self.total_bytes)
        return replace(self, total_bytes=least)

    def check_total(self, unpacked: int, packed: int, path: Path) -> None:
        """Raise DataError if `unpacked` bytes out of `packed` ones are too many."""
        if self.total_bytes is not None and unpacked > self.total_bytes:
            raise DataError(
                "the archive is too large when unpacked",
                where=path,
                got=f"more than {_size(unpacked)}",
                expected=f"at most {_size(self.total_bytes)}: what is free or allowed",
                hint="free some space, or unpack it elsewhere",
            )
        if unpacked > max(self.ratio_floor_bytes, self.ratio * packed):
            raise DataError(
                "the archive grows too large when unpacked",
                where=path,
                got=f"more than {_size(unpacked)} from {_size(packed)}",
                expected=f"at most {self.ratio:g} times its size: beyond that it is no image data",
            )

    def check_entry(self, name: str, size: int, number: int, path: Path) -> None:
        """Raise DataError if entry `number` (from 1) or its `size` in bytes is too much."""
        if number > self.entries:
            raise DataError(
                "there are too many entries in the archive",
                where=path,
                expected=f"at most {self.entries}",
            )
        if size > self.entry_bytes:
            raise DataError(
                "a file in the archive is too large",
                where=f"{path}: {shown(name)}",
                got=_size(size),
                expected=f"at most {_size(self.entry_bytes)}",
            )


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def shown(name: str) -> str:
    """`name` for a message: cut to 200 characters, what cannot be printed escaped."""
    text = name if len(name) <= 200 else f"{name[:200]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def safe_name(name: str, path: Path, limits: Limits | None = None) -> str:
    """An entry's relative name in NFC with `/`, without `./`; empty for the archive's own root.

    Raises DataError, naming `path`, for a name that leads out of the archive on this system or on
    another (absolute, `..`, backslash, drive letter, or one of these once Unicode look-alikes are
    normalized), holds control characters or undecodable bytes, is a device of Windows, or is
    longer or deeper than `limits`.
    """
    limits = limits or Limits()
    plain = name.isascii()
    for text in (name,) if plain else (name, unicodedata.normalize("NFKC", name)):
        parts = _SEPARATORS.split(text)
        if text.startswith(("/", "\\")) or _DRIVE.match(text) or ".." in parts:
            raise _refused("an entry of the archive leads out of it", name, path)
    if "\\" in name or "\0" in name:
        raise _refused("an entry of the archive leads out of it", name, path)
    if _CONTROL.search(name):
        raise _refused("an entry's name holds control characters", name, path)
    if _SURROGATE.search(name):
        raise _refused("an entry's name is not UTF-8", name, path)
    kept = [c for c in unicodedata.normalize("NFC", name).split("/") if c not in ("", ".")]
    for component in kept:
        if not component.rstrip(". "):
            raise _refused("an entry of the archive leads out of it", name, path)
        if _RESERVED.fullmatch(component.rstrip(". ")):
            raise _refused("an entry is named like a device of Windows", name, path)
        if 4 * len(component) > limits.component_bytes < len(component.encode()):
            raise _refused("an entry's name is too long", name, path)
    if len("/".join(kept).encode()) > limits.path_bytes or len(kept) > limits.depth + 1:
        raise _refused("an entry lies too deep in folders", name, path)
    return "/".join(kept)


def _refused(what: str, name: str, path: Path) -> DataError:
    return DataError(what, where=path, got=shown(name))


def is_hidden(name: str) -> bool:
    """True for what is no part of the data: dot files, and what the Mac's archiver adds."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


class NameCheck:
    """Refuses names that would meet in one place on some file system.

    Two files of one name, a file where a folder must be, and names that differ only in upper and
    lower case, in Unicode form, or in dots and spaces at the end. A folder named again is the same
    folder. Which of two was meant nobody can say: no later one wins.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, tuple[str, bool]] = {}
        self._folders: set[str] = {""}

    def add(self, name: str, *, folder: bool = False) -> None:
        """Enter the safe `name` and the folders above it. Raises DataError."""
        parent = name.rpartition("/")[0]
        if parent not in self._folders:
            self.add(parent, folder=True)
        if folder and name in self._folders:
            return
        key = "/".join(part.rstrip(". ") for part in name.casefold().split("/"))
        other = self._seen.get(unicodedata.normalize("NFC", key))
        if other is not None:
            raise self._clash(name, *other, folder=folder)
        self._seen[unicodedata.normalize("NFC", key)] = (name, folder)
        if folder:
            self._folders.add(name)

    def _clash(self, name: str, other: str, was_folder: bool, *, folder: bool) -> DataError:  # noqa: FBT001
        if was_folder != folder:
            what = "a name in the archive is both a file's and a folder's"
        elif name == other:
            what = "two files in the archive have the same name"
        else:
            what = "two names in the archive differ only in case, Unicode form or dots at the end"
        return DataError(
            what,
            where=self._path,
            got=f"{shown(other)} and {shown(name)}",
            hint="some file systems keep only one of the two: rename one, and pack again",
        )
