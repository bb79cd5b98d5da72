"""One checkpoint out of a run's: the best, the last, or that of an epoch or step.

What is not there is answered by the next lower one, and said so: never by a later one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.base.errors import ConfigError
from discern.track.run_reference import CheckpointWish
from discern.training.checkpoints import CheckpointStore, read_state
from discern.training.ledger import Ledger
from discern.training.monitor import Monitor, open_monitor


@dataclass(frozen=True, slots=True)
class ChosenCheckpoint:
    """The checkpoint's folder and step; `note` tells when it is not exactly the one wished for."""

    path: Path
    step: int
    note: str | None = None


def final_monitor(stages: Mapping[str, Mapping[str, Any]]) -> Monitor:
    """What a run's model is chosen by: the monitor of its last stage that trains, by its config."""
    last = [stage for stage in stages.values() if stage.get("kind", "train") == "train"][-1]
    return open_monitor(last["monitor"], last.get("monitor_mode"))


def choose_checkpoint(folder: Path, wish: CheckpointWish, monitor: Monitor) -> ChosenCheckpoint:
    """The checkpoint of the run whose checkpoints are in `folder`.

    Epochs are those of the stage that the wish names, else of the last stage that has begun.
    Raises ConfigError, with what there is, when nothing as low was kept.
    """
    store = CheckpointStore(folder, warn=lambda _: None) if folder.is_dir() else None
    states = {} if store is None else {step: read_state(store.path(step)) for step in store.steps()}
    if store is None or not states:
        raise ConfigError("the run has no checkpoint", where=folder)
    step, note = _step(states, wish, monitor, folder)
    return ChosenCheckpoint(store.path(step), step, note)


def _step(
    states: dict[int, dict[str, Any]], wish: CheckpointWish, monitor: Monitor, folder: Path
) -> tuple[int, str | None]:
    last = max(states)
    if wish.unit == "last":
        return last, None
    if wish.unit == "best":
        ledger = Ledger()
        ledger.restore(states[last]["ledger"])
        for entry in ledger.ranked(monitor, stage=wish.stage):
            if entry.step in states:
                return entry.step, None
        raise ConfigError("no evaluated checkpoint is kept", where=folder, got=str(wish))
    if wish.unit == "step":
        places = {step: step for step in states}
    else:
        stage = wish.stage or states[last]["stage"]
        places = {
            _epochs(state): step for step, state in sorted(states.items())
            if state["stage"] == stage and (state["batch"] == 0 or state["ended"])
        }  # fmt: skip
    there = sorted(places)
    wanted = wish.number
    if wanted < 0:
        wanted = there[wanted] if -len(there) <= wanted else -1
    lower = [place for place in there if place <= wanted]
    if not lower:
        raise ConfigError(
            f"no checkpoint of this {wish.unit} or a lower one is kept",
            where=folder,
            got=str(wish),
            expected=", ".join(map(str, there)) or f"a stage of the run: {_stages(states)}",
        )
    chosen = lower[-1]
    if chosen == wanted:
        return places[chosen], None
    note = f"{wish.unit} {wanted} was not kept: the next lower one is {wish.unit} {chosen}"
    return places[chosen], f"{note} (step {places[chosen]})"


def _epochs(state: dict[str, Any]) -> int:
    """Epochs done; one that a stage ended in counts."""
    return int(state["epoch"]) + (1 if state["batch"] else 0)


def _stages(states: dict[int, dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(state["stage"] for _, state in sorted(states.items())))
