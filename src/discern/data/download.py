"""Fetching a file from a list of mirrors: resumable, checked, atomic, with a way out offline."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discern.base.errors import DataError
from discern.base.files import sync_folder

MIRROR_VARIABLE: Final = "DISCERN_MIRROR"
_CHUNK: Final = 1 << 18
_RANGE_REFUSED: Final = 416

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to fetch: its name, the folders (URLs) that hold it, and its MD5."""

    name: str
    mirrors: tuple[str, ...]
    md5: str


def fetch(
    file: RemoteFile, folder: Path, *, progress: Progress | None = None, timeout_s: float = 20.0
) -> Path:
    """`file` in `folder`, downloaded if it is not there yet.

    $DISCERN_MIRROR is tried first, then each mirror in order. What was received before a cut is
    gone on with. Raises DataError, naming what was tried and the ways out, if no mirror gives a
    file with the right sum.
    """
    target = folder / file.name
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{file.name}.part"
    given = os.environ.get(MIRROR_VARIABLE)
    tried = []
    for mirror in (given, *file.mirrors) if given else file.mirrors:
        url = f"{mirror.rstrip('/')}/{file.name}"
        # What an earlier attempt left may be another file's beginning: then once more from zero.
        for resumed in (True, False) if part.exists() else (False,):
            try:
                if not resumed:
                    part.unlink(missing_ok=True)
                _receive(url, part, progress, timeout_s)
                digest = _md5(part)
            except (OSError, ValueError, http.client.HTTPException) as error:
                tried.append(f"{url}: {error}")
                break
            if digest == file.md5:
                os.replace(part, target)
                sync_folder(folder)
                return target
            part.unlink()
            if not resumed:
                tried.append(f"{url}: its MD5 is {digest}, not {file.md5}")
    raise DataError(
        f"{file.name} is not here and could not be downloaded",
        where=folder,
        got="; ".join(tried),
        hint=f"get {file.name} elsewhere, put it into a folder, and give that with --root FOLDER",
    )


def _receive(url: str, part: Path, progress: Progress | None, timeout_s: float) -> None:
    """Append to `part` what is missing of `url`."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)  # noqa: S310 - the mirrors and the user's own variable
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_s)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_REFUSED and start:
            return  # all of it is there already
        raise
    with answer, open(part, "ab" if answer.status == 206 else "wb") as stream:
        if answer.status != 206:
            start = 0
        length = int(answer.headers.get("Content-Length") or 0)
        received = 0
        while chunk := answer.read(_CHUNK):
            stream.write(chunk)
            received += len(chunk)
            if progress is not None and length:
                progress(start + received, start + length)
        stream.flush()
        os.fsync(stream.fileno())
        if length and received < length:
            msg = f"cut off after {start + received} of {start + length} bytes"
            raise ValueError(msg)


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch_all(
    files: Sequence[RemoteFile], folder: Path, *, progress: Progress | None = None
) -> list[Path]:
    """Every file of `files` in `folder`. Raises DataError for the first that cannot be had."""
    return [fetch(file, folder, progress=progress) for file in files]
