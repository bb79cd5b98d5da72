"""What a training was like when it failed: the state of the moment, kept for looking at.

`<run>/crash/step-N` has the form of a checkpoint, and `state.json` the error with its traceback.
A resume never reads it: an error in the middle of a step leaves a state that no undisturbed run
has. It goes on from the last checkpoint.
"""

from __future__ import annotations

import contextlib
import shutil
import traceback
from collections.abc import Iterator
from typing import Final

from discern.base.errors import DiscernError, Interrupted
from discern.training.checkpoints import CheckpointStore
from discern.training.state_io import capture_state
from discern.training.step import TrainState
from discern.training.trainer import Session

FOLDER: Final = "crash"


@contextlib.contextmanager
def crash_kept(session: Session, state: TrainState) -> Iterator[None]:
    """Keep `state` if an error leaves the block; the error goes on. A stop as asked is none.

    What cannot be saved is added to the error as a note.
    """
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        if not session.world.leads:
            raise  # all ranks hold the same weights, and the first writes
        try:
            path = _save(session, state, error)
            session.recorder.warn(f"the state at the failure is kept in {path}")
        except (DiscernError, OSError, RuntimeError) as second:
            error.add_note(f"and the state at the failure could not be kept: {second}")
        raise


def _save(session: Session, state: TrainState, error: Exception) -> str:
    folder = session.store.folder.parent / FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # one of an earlier attempt
    store = CheckpointStore(folder, warn=session.recorder.warn)
    groups, values = capture_state(state)
    values["stage"] = session.progress.stage
    values["error"] = {
        "type": type(error).__name__,
        "text": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    return str(store.write(state.step, groups, values))
