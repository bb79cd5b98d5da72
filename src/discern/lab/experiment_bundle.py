"""A run's record and one of its checkpoints in one `.tar.gz`, to be taken elsewhere."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from discern.base.errors import DataError, RunError
from discern.base.files import atomic_file, atomic_folder
from discern.track.run_folder import CHECKPOINTS, CONFIG_FILE, RUN_FILE, Run, check_name

INFO_FILE: Final = "info.json"
_RECORDS: Final = (RUN_FILE, CONFIG_FILE, "configs.json", "exit.json")
_MOST_BYTES: Final = 64 << 30  # beyond this an archive is a bomb, not a model


def write_bundle(path: Path, run: Run, step: int, data_files: Iterable[Path]) -> Path:
    """The records of `run`, its checkpoint `step`, and `data_files` under `data/`, as `path`.

    Raises RunError if the run has no such checkpoint.
    """
    folder = run.path / CHECKPOINTS / f"step-{step}"
    if not folder.is_dir():
        raise RunError("there is no such checkpoint", where=folder)
    info = {"version": 1, "project": run.project, "name": run.name, "step": step}
    with atomic_file(path) as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
        text = json.dumps(info, indent=1).encode()
        member = tarfile.TarInfo(INFO_FILE)
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
        for name in _RECORDS:
            if (run.path / name).is_file():
                archive.add(run.path / name, name)
        archive.add(folder, f"{CHECKPOINTS}/{folder.name}")
        for file in data_files:
            archive.add(file, f"data/{file.name}")
    return path


def read_bundle(path: Path, root: Path) -> tuple[Path, int]:
    """Unpack a bundle as the run that it was, below `root`; gives (its folder, the step).

    A run that is there already stays as it is. Raises DataError for what is no bundle.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            info = _info(archive, path)
            folder = (
                root / check_name(info["project"], str(path)) / check_name(info["name"], str(path))
            )
            members = archive.getmembers()
            if sum(member.size for member in members) > _MOST_BYTES:
                raise DataError("the bundle is too large", where=path)
            if not folder.exists():
                with atomic_folder(folder) as temporary:
                    archive.extractall(temporary, members, filter="data")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"the bundle cannot be read: {error}", where=path) from error
    return folder, int(info["step"])


def _info(archive: tarfile.TarFile, path: Path) -> dict[str, Any]:
    try:
        stream = archive.extractfile(INFO_FILE)
        info = json.loads(stream.read()) if stream is not None else None
    except (KeyError, ValueError):
        info = None
    if not isinstance(info, dict) or info.get("version") != 1:
        raise DataError("this is no bundle of an experiment", where=path, expected=INFO_FILE)
    return info
