"""RUN@WHAT: a run, and which of its checkpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
