"""`checkpoints/metrics.json`: what was scored after which epoch, and which checkpoints there are.

For people and programs beside the run; nothing here reads it back. Rewritten after each save.
"""

from __future__ import annotations

from typing import Any, Final

from discern.base.errors import RunError
from discern.base.files import write_json
from discern.training.checkpoints import CheckpointStore
from discern.training.ledger import Entry, Ledger
from discern.training.monitor import Monitor

FILE: Final = "metrics.json"
VERSION: Final = 1


def index_record(
    store: CheckpointStore, ledger: Ledger, monitor: Monitor, keep_top: int
) -> dict[str, Any]:
    """`best`, `last`, `top` and `epochs`: evaluations with the folder of their checkpoint.

    Each entry: step, stage, epoch, each figure of the images that the model is chosen by, and
    `checkpoint`, a folder's name, None where it is not kept. `kept`: all folders there are.
    """
    kept = {step: store.path(step).name for step in store.steps()}

    def entry(found: Entry) -> dict[str, Any]:
        return found.record() | {"checkpoint": kept.get(found.step)}

    top = [entry(found) for found in ledger.ranked(monitor)[:keep_top]]
    return {
        "version": VERSION,
        "monitor": monitor.name,
        "mode": monitor.mode,
        "best": top[0] if top else None,
        "last": max(kept.values(), key=lambda name: int(name.rpartition("-")[2]), default=None),
        "top": top,
        "kept": list(kept.values()),
        "epochs": [entry(found) for found in ledger.entries],
    }


def write_index(store: CheckpointStore, ledger: Ledger, monitor: Monitor, keep_top: int) -> None:
    """Replace the index beside the checkpoints. Raises RunError if it cannot be written."""
    path = store.folder / FILE
    try:
        write_json(path, index_record(store, ledger, monitor, keep_top))
    except OSError as error:
        raise RunError(
            f"the list of checkpoints cannot be written: {error}",
            where=path,
            hint="the checkpoints are whole; free some space and give the same command again",
        ) from error
