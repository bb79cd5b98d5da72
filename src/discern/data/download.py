"""Fetching files over HTTP: resumable, checked, atomic, with a clear word when offline.

What was received lies in `NAME.part` beside the target, and what it was a part of in
`NAME.part.json`, so that a cut download is gone on with, also by a later process, and never with
the bytes of another file.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from discern.base.errors import DataError
from discern.data.partial_files import PartialFile, partial_file

MIRROR_VARIABLE: Final = "DISCERN_MIRROR"
# Attempts without a new byte before an address is given up, and the pause before the second; each
# further pause is twice as long. Together 7.5 s: a server's restart, not an outage.
ATTEMPTS: Final = 5
_ATTEMPTS_AT_FIRST: Final = 3  # of an address that never gave a byte: mostly one is offline
FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_CHUNK: Final = 1 << 18
_PARTIAL: Final = 206
_RANGE_REFUSED: Final = 416
_FAULTS: Final = (
    http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError, ValueError,
)  # fmt: skip
_SHA256: Final = re.compile("[0-9a-fA-F]{64}")
_PASSING: Final = frozenset((408, 425, 429, 500, 502, 503, 504))

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to fetch: its name, the folders (URLs) that hold it, and its MD5."""

    name: str
    mirrors: tuple[str, ...]
    md5: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadReport:
    """What was downloaded. `resumed_bytes`: of it, what an earlier attempt had left."""

    url: str
    path: Path
    length_bytes: int
    sha256: str
    resumed_bytes: int

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "url": self.url,
            "path": str(self.path),
            "bytes": self.length_bytes,
            "sha256": self.sha256,
            "resumed_bytes": self.resumed_bytes,
        }


class _CutError(Exception):
    """An attempt that failed in a way that may pass. `wait_s`: what the server asked for."""

    def __init__(self, text: str, wait_s: float = 0.0) -> None:
        super().__init__(text)
        self.wait_s = wait_s


class _FinalError(Exception):
    """An answer that another attempt would not change."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    progress: Progress | None = None,
    timeout_s: float = 20.0,
    pause: Callable[[float], None] = time.sleep,
) -> DownloadReport:
    """Fetch `url` to the file `target`, going on with what an earlier attempt left.

    A file that changed on the server in between is fetched from its start. `progress`: (bytes here,
    bytes in all), called only where the server tells the length. `timeout_s`: of silence. Cut
    connections and passing failures of the server are tried again, up to 5 times without a new
    byte. Raises DataError if the address is none of HTTP, gives nothing, or if the file has not
    the sum `sha256`; a file with a wrong sum is not kept.
    """
    _check_url(url)
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise DataError("not a SHA-256", got=sha256, expected="64 hex digits")
    attempt = _Attempt(progress, timeout_s, pause, trusted=sha256 is not None)
    with partial_file(target) as part:
        return _download(url, part, target, sha256, attempt)


def _download(
    url: str, part: PartialFile, target: Path, sha256: str | None, attempt: _Attempt
) -> DownloadReport:
    if not (attempt.trusted or (part.known.get("url") == url and _strong(part.known))):
        part.drop()  # neither the server nor a sum could tell whose beginning it is
    while True:
        resumed = part.resumed = part.length
        try:
            _receive(url, part, attempt, attempts=ATTEMPTS, at_first=_ATTEMPTS_AT_FIRST)
        except (_CutError, _FinalError) as error:
            raise _not_downloaded(url, str(error), part) from error
        digest = part.digest("sha256")
        if sha256 is None or digest == sha256.lower():
            break
        part.drop()
        if not resumed:
            raise DataError(
                "the downloaded file is not the right one: its SHA-256 differs",
                where=url,
                got=digest,
                expected=sha256.lower(),
                hint="the file changed, or the address gives something else: nothing was kept",
            )
    part.finish(target)
    length = target.stat().st_size
    return DownloadReport(
        url=url, path=target, length_bytes=length, sha256=digest, resumed_bytes=part.resumed
    )


def _check_url(url: str) -> None:
    if not url.lower().startswith(("http://", "https://")) or any(c <= " " for c in url):
        raise DataError(
            "not an address that can be downloaded",
            got=url,
            expected="http://... or https://...",
            hint="a file on this machine: `discern data extract FILE`",
        )


def _not_downloaded(url: str, got: str, part: PartialFile) -> DataError:
    kept = part.length
    return DataError(
        "the file could not be downloaded",
        where=url,
        got=got,
        hint=f"the same command goes on after the {kept} bytes that are here"
        if kept
        else "is this machine online, and the address right? a file that you have got by another"
        " way can be named instead",
    )


def _strong(known: dict[str, str]) -> bool:
    version = known.get("version", "")
    return bool(version) and not version.startswith("W/")


@dataclass(frozen=True, slots=True)
class _Attempt:
    """How to receive: whom to tell, seconds of silence allowed, how to wait.

    `trusted`: a sum will tell whether parts belong together; else only the server can.
    """

    progress: Progress | None
    timeout_s: float
    pause: Callable[[float], None]
    trusted: bool = True


def _receive(
    url: str, part: PartialFile, attempt: _Attempt, *, attempts: int, at_first: int
) -> None:
    """Append to `part` what is missing of `url`. Raises _CutError or _FinalError.

    `attempts`: how many may fail in a row without a new byte; `at_first`: before there are any.
    """
    failures, reached = 0, part.length
    while True:
        try:
            with _answer(url, part, attempt.timeout_s) as answer:
                if answer is not None:
                    _store(answer, url, part, attempt.progress)
        except _CutError as error:
            failures = 1 if part.length > reached else failures + 1
            reached = max(reached, part.length)
            if not (attempt.trusted or _strong(part.known)):
                part.drop()
            if failures >= (attempts if reached else at_first):
                raise
            pause = FIRST_PAUSE_S * 2 ** (failures - 1)
            attempt.pause(min(max(pause, error.wait_s), _LONGEST_PAUSE_S))
        else:
            return


@contextmanager
def _answer(
    url: str, part: PartialFile, timeout_s: float
) -> Iterator[http.client.HTTPResponse | None]:
    """The server's answer, None if all is here already. Network faults inside become _CutError."""
    start = part.length
    request = urllib.request.Request(url, headers={"User-Agent": "discern"})  # noqa: S310 - checked
    if start:
        request.add_header("Range", f"bytes={start}-")
        if part.known.get("url") == url and _strong(part.known):
            request.add_header("If-Range", part.known["version"])
    try:
        try:
            answer = urllib.request.urlopen(request, timeout=timeout_s)  # noqa: S310 - checked
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != _RANGE_REFUSED or not start:
                raise
            if str(error.headers.get("Content-Range", f"bytes */{start}")) == f"bytes */{start}":
                yield None
                return
            part.drop()
            msg = "the file on the server became shorter"
            raise _CutError(msg) from error
        with answer:
            yield answer
    except urllib.error.HTTPError as error:
        text = f"the server answers {error.code} {error.reason}"
        if error.code in _PASSING:
            raise _CutError(text, _seconds(error.headers.get("Retry-After"))) from error
        raise _FinalError(text) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise _FinalError(str(error.reason)) from error
        raise _CutError(str(error.reason)) from error
    except _FAULTS as error:
        raise _CutError(str(error) or type(error).__name__) from error


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdigit() else 0.0


def _store(
    answer: http.client.HTTPResponse, url: str, part: PartialFile, progress: Progress | None
) -> None:
    """Write the answer's bytes to `part`, after those that are there if it goes on with them."""
    start, total = _range(answer) if answer.status == _PARTIAL else (0, 0)
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    changed = part.known.get("url") == url and part.known.get("version", version) != version
    if answer.status == _PARTIAL and (start not in (None, part.length) or changed):
        part.drop()
        msg = "the file changed on the server in between"
        raise _CutError(msg)
    length = int(answer.headers.get("Content-Length") or 0)
    if answer.status != _PARTIAL:
        part.drop()
    before = part.length
    part.remember(url, version)
    _check_room(part, length)
    received = 0
    try:
        while chunk := answer.read(_CHUNK):
            part.stream.write(chunk)
            received += len(chunk)
            if progress is not None and length:
                progress(before + received, before + length)
    finally:
        part.settle()
    if received < length or (total and before + received != total):
        msg = f"cut off after {before + received} of {total or before + length} bytes"
        raise _CutError(msg)


def _range(answer: http.client.HTTPResponse) -> tuple[int | None, int]:
    """(first byte, None if not told; length of the whole file, 0 if not told) of a part."""
    text = (answer.headers.get("Content-Range") or "").removeprefix("bytes ")
    span, _, total = text.partition("/")
    first = span.partition("-")[0]
    return (int(first) if first.isdigit() else None, int(total) if total.isdigit() else 0)


def _check_room(part: PartialFile, length: int) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if length > free:
        raise DataError(
            "the disk has no room for the download", where=part.path.parent,
            got=f"{free / 1e6:.0f} MB free", expected=f"{length / 1e6:.0f} MB",
        )  # fmt: skip


def fetch(
    file: RemoteFile,
    folder: Path,
    *,
    progress: Progress | None = None,
    timeout_s: float = 20.0,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """`file` in `folder`, downloaded if it is not there yet.

    $DISCERN_MIRROR is tried first, then each mirror in order. What was received before a cut is
    gone on with, from whichever mirror: the sum tells whether it fits. Raises DataError, naming
    what was tried and the ways out, if no mirror gives a file with the right sum.
    """
    target = folder / file.name
    if target.is_file():
        return target
    given = os.environ.get(MIRROR_VARIABLE)
    mirrors = (given, *file.mirrors) if given else file.mirrors
    attempt = _Attempt(progress, timeout_s, pause)
    tried: list[str] = []
    with partial_file(target) as part:
        if target.is_file():  # another process was faster
            return target
        for number, mirror in enumerate(mirrors, 1):
            url = f"{mirror.rstrip('/')}/{file.name}"
            if _fetch_from(url, part, file.md5, attempt, tried, last=number == len(mirrors)):
                part.finish(target)
                return target
    raise DataError(
        f"{file.name} is not here and could not be downloaded",
        where=folder,
        got="; ".join(tried),
        hint=f"get {file.name} elsewhere, put it into a folder, and give that with --root FOLDER",
    )


def _fetch_from(
    url: str, part: PartialFile, md5: str, attempt: _Attempt, tried: list[str], *, last: bool
) -> bool:
    """True if `part` is now the file with the sum `md5`; else why not, in `tried`."""
    # What an earlier attempt left may be another file's beginning: then once more from zero.
    for resumed in (True, False) if part.length else (False,):
        if not resumed:
            part.drop()
        try:
            # With other mirrors to go, or nobody answering, there is no use in waiting.
            _receive(url, part, attempt, attempts=ATTEMPTS if last else 1, at_first=1)
        except (_CutError, _FinalError) as error:
            tried.append(f"{url}: {error}")
            return False
        digest = part.digest("md5")
        if digest == md5:
            return True
        part.drop()
        if not resumed:
            tried.append(f"{url}: its MD5 is {digest}, not {md5}")
    return False


def fetch_all(
    files: Sequence[RemoteFile], folder: Path, *, progress: Progress | None = None
) -> list[Path]:
    """Every file of `files` in `folder`. Raises DataError for the first that cannot be had."""
    return [fetch(file, folder, progress=progress) for file in files]
