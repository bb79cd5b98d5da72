"""Getting data ready to train on: a built-in set written as folders, or an address downloaded.

Behind `discern data get NAME|URL`. What comes from an address is checked, unpacked by our own
extractor, and looked through before it takes its name.
"""

from __future__ import annotations

import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from discern.base.errors import DataError
from discern.base.files import cache_folder, hash_bytes, hash_file
from discern.base.names import did_you_mean
from discern.data.archive_names import Limits, safe_name, shown
from discern.data.archive_streams import archive_kind, holds_archive
from discern.data.archives import is_archive
from discern.data.catalog import BUILT_IN, read_catalog
from discern.data.containers import is_image_name
from discern.data.download import download
from discern.data.extract import data_folder, extract_archive
from discern.data.get_layouts import (
    IRIS_FILE,
    folder_layout,
    is_written,
    write_iris,
    write_layout,
)
from discern.data.table_files import TABLE_SUFFIXES
from discern.data.whole_folders import check_place, whole_folder

Progress = Callable[[int, int], None]

GETTABLE: Final = (*BUILT_IN, "iris")
# Files other than images and tables that data can be in.
_DATA_SUFFIXES: Final = (".rec", ".lst", ".npz", ".npy", ".tar", ".gz", ".bin", ".zip", ".json")
# Suffixes of addresses that do not say what comes: the content does.
_UNTOLD: Final = ("", ".php", ".aspx", ".gz", ".bz2", ".xz", ".zst")
_DRIVE: Final = re.compile(r"https://drive\.google\.com/(?:file/d/|(?:open|uc)\?.*?id=)([\w-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class GetReport:
    """What is there now. `data`: what to name as DATA. `files`: images, or files of any kind.

    `splits`: images by split, empty for what came from an address. `sha256`: of the file that was
    downloaded. `already`: everything was there before. `resumed`: images that a killed writer left.
    """

    source: str
    folder: Path
    data: Path
    files: int
    layout: str
    classes: tuple[str, ...] = ()
    splits: dict[str, int] = field(default_factory=dict)
    sha256: str | None = None
    already: bool = False
    resumed: int = 0

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "source": self.source,
            "folder": str(self.folder),
            "data": str(self.data),
            "files": self.files,
            "layout": self.layout,
            "classes": list(self.classes),
            "splits": self.splits,
            "sha256": self.sha256,
            "already": self.already,
            "resumed": self.resumed,
        }


def get_data(
    name_or_url: str,
    out: Path | str,
    *,
    sha256: str | None = None,
    root: str | None = None,
    expect: Sequence[str] = (),
    limits: Limits | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> GetReport:
    """Put a built-in set, or what an HTTP address gives, into the new folder `out`.

    A name (mnist, fashion-mnist, cifar10, cifar100, digits): its original files, from the folder
    `root` or downloaded, as train/CLASS/NNNNN.png and test/CLASS/NNNNN.png (see `get_layouts`);
    iris: the table iris.csv. A killed writer's images are gone on with.
    An address: downloaded, checked against `sha256` if given; an archive is unpacked within
    `limits`, another file is put there as it is. `expect`: names or patterns, relative to `out` or
    to its only folder, that must be there, else nothing is kept.
    `progress`: (done, total), in bytes, then bytes of the archive or images.
    Raises DataError, and leaves no `out`, for an unknown name, an `out` with something else in it,
    and all that downloading and unpacking refuse.
    """
    out = Path(out)
    if "://" in name_or_url:
        if root is not None:
            raise DataError("an address has no root folder", got=root, hint="leave --root out")
        check_place(out)  # before anything is downloaded
        return _get_url(name_or_url, out, sha256, expect, limits, progress)
    _check_name(name_or_url, sha256)
    if name_or_url == "iris":
        return _get_iris(out)
    return _get_built_in(name_or_url, out, root, threads, progress)


def _check_name(name: str, sha256: str | None) -> None:
    if name not in GETTABLE:
        hint = did_you_mean(name, GETTABLE)
        if Path(name).is_file():
            hint = f"it is a file: `discern data extract {name}` unpacks it"
        raise DataError(
            "there is no such set to get",
            got=name,
            expected=f"one of {', '.join(GETTABLE)}, or an address: https://...",
            hint=hint,
        )
    if sha256 is not None:
        raise DataError(
            "the sums of built-in sets are known",
            got=sha256,
            hint="leave --sha256 out: it belongs to an address",
        )


def _get_iris(out: Path) -> GetReport:
    with whole_folder(out) as folder:
        rows = write_iris(folder)
    return GetReport(
        source="iris",
        folder=out,
        data=out / IRIS_FILE,
        files=1,
        layout=f"a table of {rows} rows",
        classes=("setosa", "versicolor", "virginica"),
    )


def _get_built_in(
    name: str, out: Path, root: str | None, threads: int | None, progress: Progress | None
) -> GetReport:
    data = read_catalog(name, root, progress)
    layout = folder_layout(data)
    already = out.is_dir() and is_written(layout, out)
    resumed = 0
    if not already:
        with whole_folder(out, resume=True) as folder:
            resumed = write_layout(
                data,
                layout,
                folder,
                threads=threads or len(os.sched_getaffinity(0)),
                progress=progress,
            )
    return GetReport(
        source=name,
        folder=out,
        data=out,
        files=len(layout.names),
        layout=f"{' and '.join(layout.counts)} folders of class folders",
        classes=tuple(folder.replace("/", "_") for folder in data.classes),
        splits=layout.counts,
        already=already,
        resumed=resumed,
    )


def direct_url(url: str) -> str:
    """The address of the file itself for a share link of Google Drive; else `url`."""
    shared = _DRIVE.match(url)
    if shared is None:
        return url
    return f"https://drive.usercontent.google.com/download?id={shared[1]}&export=download&confirm=t"


def _get_url(
    url: str,
    out: Path,
    sha256: str | None,
    expect: Sequence[str],
    limits: Limits | None,
    progress: Progress | None,
) -> GetReport:
    name = _file_name(url)
    place = cache_folder("downloads", hash_bytes(url.encode())[:32]) / name
    # Only a sum can tell that what an earlier call fetched, but could not unpack, is still right.
    if sha256 is not None and place.is_file() and hash_file(place) == sha256.lower():
        digest = sha256.lower()
    else:
        digest = download(direct_url(url), place, sha256=sha256, progress=progress).sha256
    suffix = Path(name).suffix.lower()

    def check(folder: Path) -> None:
        _check_expected(folder, expect, url)

    if is_archive(place) or (suffix in _UNTOLD and holds_archive(place)):
        report = extract_archive(place, out, limits=limits, progress=progress, check=check)
        files, data = report.files, report.data
        layout = f"{archive_kind(place)} archive of {files} files"
    else:
        _refuse_page(place, url)
        with whole_folder(out) as folder:
            shutil.copyfile(place, folder / name)
            check(folder)
        files, data, layout = 1, out / name, "one file"
    shutil.rmtree(place.parent)
    return GetReport(source=url, folder=out, data=data, files=files, layout=layout, sha256=digest)


def _file_name(url: str) -> str:
    """The last part of the address's path as a safe file name; `download` if it has none."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    name = safe_name(path.rpartition("/")[2] or "download", Path(url)).lstrip(".")
    return name.rpartition("/")[2] or "download"


def _refuse_page(place: Path, url: str) -> None:
    with open(place, "rb") as stream:
        start = stream.read(512).lstrip().lower()
    if not start or start.startswith((b"<!doctype html", b"<html")):
        raise DataError(
            "the address gives no data",
            where=url,
            got="a web page" if start else "an empty file",
            hint="the address of the file itself is needed: copy the link of its download button",
        )


def _check_expected(folder: Path, expect: Sequence[str], url: str) -> None:
    """Raise DataError unless everything expected, and anything that can be data, is there."""
    inner = data_folder(folder)
    for pattern in expect:
        safe_name(pattern, Path(url))
        if not any(folder.glob(pattern)) and not any(inner.glob(pattern)):
            there = sorted(entry.name for entry in inner.iterdir())
            raise DataError(
                "an expected file is not in what was downloaded",
                where=url,
                got=", ".join(shown(name) for name in there[:10]),
                expected=pattern,
            )
    for _, _, names in os.walk(folder):
        for name in names:
            if is_image_name(name) or name.lower().endswith((*TABLE_SUFFIXES, *_DATA_SUFFIXES)):
                return
    raise DataError(
        "there are no images and no tables in what was downloaded",
        where=url,
        got=", ".join(sorted(entry.name for entry in inner.iterdir())[:10]) or "nothing",
    )
