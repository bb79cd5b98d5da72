"""How people name a run: RUN@WHAT for one of its checkpoints, and the beginning of a UUID."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discern.base.errors import ConfigError

# A beginning of fewer characters would soon mean several runs.
LEAST_UUID: Final = 4
_UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

_WHAT = re.compile(
    r"(?P<run>.+)@(?:(?P<stage>[^@]+)/)?(?:(?P<end>best|last)|(?P<unit>epoch|step):(?P<number>-?\d+))"
)


@dataclass(frozen=True, slots=True)
class CheckpointWish:
    """`unit` is best, last, epoch or step; `number` belongs to the latter two.

    A negative number counts from the end: -1 is the last. `stage` narrows best and epoch to one.
    """

    unit: str
    number: int = 0
    stage: str | None = None

    def __str__(self) -> str:
        what = self.unit if self.unit in ("best", "last") else f"{self.unit}:{self.number}"
        return what if self.stage is None else f"{self.stage}/{what}"


def split_reference(text: str) -> tuple[str, CheckpointWish | None]:
    """(RUN, the wish or None) of `RUN`, `RUN@best`, `RUN@last`, `RUN@epoch:K`, `RUN@step:N`.

    `RUN@STAGE/epoch:K` counts the epochs of one stage. An @ before anything else is the name's.
    """
    found = _WHAT.fullmatch(text)
    if found is None:
        return text, None
    unit = found["end"] or found["unit"]
    return found["run"], CheckpointWish(unit, int(found["number"] or 0), found["stage"])


def begins_uuid(text: str, ids: Iterable[str]) -> list[str]:
    """Of the `ids` PROJECT/NAME, those named by a UUID that `text` is the beginning of.

    More than one is an error, which `several_begun` tells.
    `text` is `LEAST_UUID` characters or more, or PROJECT/ and so many. Only of UUIDs: the
    beginning of any other name may be a name itself, `mlp-1` of `mlp-12`, or have been one.
    """
    project, _, start = text.rpartition("/")
    if len(start) < LEAST_UUID:
        return []
    split = [(name, *name.rpartition("/")[::2]) for name in ids]
    return [
        name
        for name, folder, uuid in split
        if uuid.casefold().startswith(start.casefold())
        and project in ("", folder)
        and _UUID.fullmatch(uuid)
    ]


def several_begun(text: str, ids: Iterable[str], root: Path) -> ConfigError:
    """The error that names the runs below `root` whose UUIDs all begin with `text`."""
    named = sorted(ids)
    return ConfigError(
        f"{len(named)} runs have a UUID that begins with '{text}'",
        where=root,
        got=text,
        expected=" or ".join(named),
        hint="type more of it",
    )
