"""Reading a tar shard that has no index: its headers and label files, but not its images."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from discern.base.errors import ConfigError, DataError
from discern.data.listing import SUFFIXES
from discern.data.shard_index import index_path

# Label files beside an image, and the keys that name the label in a JSON object, first found wins.
_LABEL_SUFFIXES: Final = (".cls", ".json")
_LABEL_KEYS: Final = ("label", "class", "cls", "class_name", "target")
# A label is a few bytes; a metadata object rarely more than some kilobytes.
_LARGEST_LABEL: Final = 1 << 20
# So many files at the front of a tar tell whether images stand beside their labels.
_PEEKED: Final = 64
_BLOCK: Final = tarfile.BLOCKSIZE


class FoundImage(NamedTuple):
    """An image in a shard: where it lies, in bytes, and its label as it stands there."""

    key: str
    container: int
    offset: int
    length: int
    label: Any


@dataclass(slots=True)
class FoundImages:
    """Images as found, shard after shard, and their split codes; the rest is what is noted."""

    images: list[FoundImage] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    unlabeled: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def note_damage(self, error: DataError, on_damage: str, kept: str) -> None:
        """Raise `error`, or note it if the images before the damage are wanted."""
        if on_damage == "error":
            raise error
        self.damaged.append(f"{error.what}: {error.where}, {error.got}; {kept}")


def check_on_damage(on_damage: str) -> None:
    """Raise ConfigError for another word than error or stop."""
    if on_damage not in ("error", "stop"):
        raise ConfigError("unknown on_damage", got=on_damage, expected="error or stop")


def holds_samples(path: Path) -> bool:
    """Whether a tar has our index, or an image and its label among its first files."""
    if index_path(path).is_file():
        return True
    images, labels = set(), set()
    try:
        with tarfile.open(path, "r:") as archive:
            for _ in range(_PEEKED):
                member = archive.next()
                if member is None:
                    break
                if member.isreg():
                    key, suffix = split_key(member.name)
                    images |= {key} if suffix in SUFFIXES else set()
                    labels |= {key} if suffix in _LABEL_SUFFIXES else set()
    except (tarfile.TarError, OSError):
        return False  # not a tar that can be read: whoever opens it as one tells why
    return bool(images & labels)


def split_key(name: str) -> tuple[str, str]:
    """(key, ending in lower case): the base name is cut at its first dot, as WebDataset does."""
    folder, slash, base = name.rpartition("/")
    stem, dot, ending = base.partition(".")
    return folder + slash + stem, (dot + ending).lower()


def is_number(text: str) -> bool:
    """Whether `text` is a whole number."""
    return text.isascii() and text.removeprefix("-").isdigit()


def scan_shard(
    tar: Path, number: int, names: tuple[str, ...], found: FoundImages, on_damage: str
) -> None:
    """Append to `found` what shard `number` holds.

    `names`: the heads whose values a JSON label holds; none for one label under any known key.
    `on_damage`: error, or stop to keep what stands before the damage. Raises DataError.
    """
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, Any] = {}
    several: list[str] = []
    try:
        _read_members(tar, names, images, labels, several)
    except DataError as error:
        size = tar.stat().st_size
        whole = {key: place for key, place in images.items() if sum(place) <= size}
        images = whole
        found.note_damage(error, on_damage, f"{len(images)} images stand before that")
    found.several += [f"{tar.name}:{key}" for key in several]
    found.images += [
        FoundImage(key, number, offset, length, labels.get(key))
        for key, (offset, length) in images.items()
    ]
    found.bare += [f"{tar.name}:{key}" for key in labels if key not in images]


def _read_members(
    tar: Path,
    names: tuple[str, ...],
    images: dict[str, tuple[int, int]],
    labels: dict[str, Any],
    several: list[str],
) -> None:
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if not member.isreg():
                    continue
                key, suffix = split_key(member.name)
                if suffix in SUFFIXES:
                    if key in images:
                        several.append(key)
                    else:
                        images[key] = (member.offset_data, member.size)
                elif suffix in _LABEL_SUFFIXES and (suffix == ".cls" or key not in labels):
                    labels[key] = _read_label(archive, member, names, tar)
            _check_end(archive.offset, tar)
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            "the shard cannot be read to its end", where=tar, got=str(error) or repr(error)
        ) from error


def _check_end(offset: int, tar: Path) -> None:
    """Python's tarfile takes a damaged header, and a cut between two members, for the end."""
    with open(tar, "rb") as stream:
        stream.seek(offset)
        rest = stream.read(_BLOCK)
    if rest != b"\0" * _BLOCK:
        raise DataError(
            "the shard is damaged or cut short",
            where=f"{tar}, byte {offset}",
            got=f"{len(rest)} bytes that are no header" if rest else "the end of the file",
            expected="a header, or the end mark of an archive",
        )


def _read_label(
    archive: tarfile.TarFile, member: tarfile.TarInfo, names: tuple[str, ...], tar: Path
) -> Any:
    """A number or a name; None for a JSON object that has none. Raises DataError."""
    suffix = split_key(member.name)[1]
    where = f"{tar}:{member.name}"
    if member.size > _LARGEST_LABEL:
        raise DataError("a label file is too large", where=where, got=f"{member.size} bytes")
    stream = archive.extractfile(member)
    data = b"" if stream is None else stream.read()
    if len(data) != member.size:
        raise DataError("the shard is cut short", where=where, got=f"{len(data)} bytes")
    try:
        text = data.decode("utf-8-sig").strip()
        if suffix == ".cls":
            return int(text) if is_number(text) else text or None
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError("a label file cannot be read", where=where, got=str(error)) from error
    if isinstance(value, dict) and names:
        return [value.get(name) for name in names]
    if isinstance(value, dict):
        value = next((value[key] for key in _LABEL_KEYS if key in value), None)
    if isinstance(value, str) and is_number(value):
        return int(value)
    if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
        return value
    raise DataError(
        "a label is neither a number nor a name", where=where, got=repr(value)[:80],
        expected=f"a number or a text under {', '.join(_LABEL_KEYS)}",
    )  # fmt: skip
