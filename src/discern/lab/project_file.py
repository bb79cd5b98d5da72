"""The settings file of a project of own loops: `.discern.yaml`, looked for upwards and merged.

`.labml.yaml` and `.lab.yaml` are read in its place where a folder has no `.discern.yaml`. Inner
files win over outer ones; their `indicators` add up, outer ones first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.config.yaml_text import read_document
from discern.track import indicators as kinds
from discern.track.indicators import IndicatorKind
from discern.track.run import runs_root

FILE_NAMES: Final = (".discern.yaml", ".labml.yaml", ".lab.yaml")
_PATHS: Final = ("data_path", "experiments_path", "analytics_path", "analytics_templates")
_WITHOUT_EFFECT: Final = {
    "analytics_path": "runs are read from Python and need no folder for it",
    "analytics_templates": "there are no notebook templates",
    "web_api_open_browser": "no browser is opened",
}
_KINDS: Final = {
    kind.replace("_", ""): kind
    for kind in (
        kinds.SCALAR, kinds.HISTOGRAM, kinds.QUEUE, kinds.INDEXED_SCALAR, kinds.IMAGE, kinds.TEXT,
        kinds.INDEXED_TEXT, kinds.TENSOR,
    )
}  # fmt: skip
_OPTIONS: Final[dict[str, Any]] = {
    "is_print": bool,
    "queue_size": int,
    "density": (int, float),
    "is_once": bool,
}
_DEFAULTS: Final[dict[str, Any]] = {
    "path": None,
    "check_repo_dirty": False,
    "system_meter": True,
    "data_path": "data",
    "experiments_path": None,
    "analytics_path": None,
    "analytics_templates": {},
    "web_api": None,
    "web_api_frequency": 0,
    "web_api_open_browser": True,
    "indicators": [],
}


@dataclass(frozen=True, slots=True)
class Project:
    """The settings in force, and the files that they come from, outermost first."""

    folder: Path
    values: Mapping[str, Any]
    files: tuple[Path, ...]
    given: frozenset[str] = frozenset()

    @property
    def data_path(self) -> Path:
        """Where data sets lie or are downloaded to."""
        return self.folder / str(self.values["data_path"])

    @property
    def runs_root(self) -> Path:
        """The folder of all runs: $DISCERN_RUNS, else `experiments_path`, else ./runs."""
        given = self.values["experiments_path"]
        if given is None or os.environ.get("DISCERN_RUNS"):
            return runs_root()
        return self.folder / str(given)

    @property
    def check_repo_dirty(self) -> bool:
        """True: an experiment does not start with uncommitted changes."""
        return bool(self.values["check_repo_dirty"])

    @property
    def system_meter(self) -> bool:
        """True: an experiment measures CPU, memory, disk and GPUs once a second."""
        return bool(self.values["system_meter"])

    @property
    def web_api(self) -> str | None:
        """The writer that sends figures to the server `web_api`, every `web_api_frequency` s."""
        address, seconds = self.values["web_api"], self.values["web_api_frequency"]
        return f"{address}#every_s={seconds}" if address and seconds else address

    @property
    def indicators(self) -> list[tuple[str, IndicatorKind]]:
        """(name or pattern, kind) of the `indicators`, for the tracker. Raises ConfigError."""
        return [_indicator(entry) for entry in self.values["indicators"]]

    @property
    def without_effect(self) -> list[str]:
        """The keys given that mean nothing here, in words."""
        return [f"{key}: {_WITHOUT_EFFECT[key]}" for key in _WITHOUT_EFFECT if key in self.given]


def find_project(start: Path | None = None) -> Project:
    """The settings for the folder `start` (default: the working folder), defaults without a file.

    Paths are relative to `path`, which is relative to its file; without it, to the innermost
    file's folder. Raises ConfigError for an unknown key or a value of another type.
    """
    here = (start or Path.cwd()).absolute()
    files = [
        found
        for folder in reversed([here, *here.parents])
        for found in [next((folder / n for n in FILE_NAMES if (folder / n).is_file()), None)]
        if found is not None
    ]
    values = dict(_DEFAULTS)
    given: set[str] = set()
    base = files[-1].parent if files else here
    for file in files:
        own = _read(file)
        if own.get("path") is not None:
            base = (file.parent / own["path"]).resolve()
        own["indicators"] = [*values["indicators"], *own.get("indicators", [])]
        values.update(own)
        given |= own.keys()
    return Project(base, values, tuple(files), frozenset(given))


def _indicator(entry: Any) -> tuple[str, IndicatorKind]:
    """`{name: '*.loss', class_name: Queue, queue_size: 20, is_print: true}`, its kind `Scalar`."""
    options = dict(entry) if isinstance(entry, Mapping) else {}
    name = options.pop("name", None)
    told = str(options.pop("class_name", options.pop("type", "scalar")))
    kind = _KINDS.get(told.replace("_", "").lower())
    known = {key: want for key, want in _OPTIONS.items() if key in options}
    wrong = [key for key in options if key not in known or not isinstance(options[key], known[key])]
    if not isinstance(name, str) or kind is None or wrong:
        raise ConfigError(
            "this is no indicator",
            where="indicators",
            got=str(entry),
            expected=f"name, class_name ({', '.join(_KINDS.values())}), {', '.join(_OPTIONS)}",
        )
    return name, IndicatorKind(type=kind, **options)


def _read(file: Path) -> dict[str, Any]:
    if not file.read_text(encoding="utf-8").strip():
        return {}
    own = dict(read_document(file).value or {})
    for key, value in own.items():
        if key not in _DEFAULTS:
            raise ConfigError(
                f"unknown key '{key}'",
                where=file,
                got=key,
                expected=", ".join(_DEFAULTS),
                hint=did_you_mean(key, _DEFAULTS),
            )
        default = _DEFAULTS[key]
        kinds = (str, type(None)) if default is None or key in _PATHS[:1] else type(default)
        if value is not None and not isinstance(value, kinds):
            raise ConfigError(
                f"'{key}' has a value of another type",
                where=file,
                got=f"{type(value).__name__}: {value!r}",
                expected="text" if default is None else type(default).__name__,
            )
    return {key: value for key, value in own.items() if value is not None}
