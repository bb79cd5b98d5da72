"""How a worker that is one of several ranks begins and ends: quietly, its outcome in a file."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from discern.base.console import Console
from discern.base.errors import OK, DiscernError, InternalError, Interrupted, PartError, PeerLost
from discern.base.faults import as_told, traceback_text
from discern.launch.rank_outcomes import (
    Outcome,
    error_outcome,
    note_start,
    outcome_folder,
    read_outcomes,
    write_outcome,
)
from discern.launch.worker_process import die_with_parent

# How long a rank that lost another waits for that one's own account.
_ACCOUNT_S = 2.0
_POLL_S = 0.05


def begin_rank(rank: int) -> None:
    """Die with torchrun, and let the launcher know this process."""
    folder = outcome_folder()
    if folder is None:
        return
    ask_kernel = die_with_parent()
    if ask_kernel is not None:
        ask_kernel()
    note_start(folder, rank)


def leave_result(rank: int, result: dict[str, Any]) -> None:
    """Let the launcher know what this rank answers."""
    folder = outcome_folder()
    if folder is not None:
        write_outcome(folder, Outcome(rank=rank, result=result))


def end_rank(rank: int, error: BaseException, console: Console) -> int:
    """Tell what ended this rank; gives the exit code.

    With a launcher it is told there, once for all ranks; else rank 0 and any rank with a failure of
    its own print it. A stop ends no other rank before it has ended by itself: code 0 but on rank 0.
    """
    told = as_told(error)
    consequence = _is_consequence(error)
    folder = outcome_folder()
    if folder is not None:
        text = None
        if isinstance(told, InternalError | PartError):
            text = traceback_text(error)
        outcome = error_outcome(rank, told, traceback=text, consequence=consequence)
        write_outcome(folder, outcome)
        return OK if isinstance(told, Interrupted) else told.exit_code
    if rank == 0:
        return console.last_door(told if isinstance(error, KeyboardInterrupt) else _plain(error))
    if isinstance(told, Interrupted):
        return OK
    return told.exit_code if consequence else Console(debug=console.debug).last_door(_plain(error))


def _plain(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(str(error))


def _is_consequence(error: BaseException) -> bool:
    return isinstance(error, PeerLost)


def with_account(error: DiscernError) -> DiscernError:
    """The loss of another rank, told by that one's own account where it left one."""
    folder = outcome_folder()
    deadline = time.monotonic() + _ACCOUNT_S
    while folder is not None and time.monotonic() < deadline:
        for outcome in read_outcomes(folder):
            if outcome.error is not None and not outcome.consequence:
                fields = {name: outcome.error[name] for name in ("where", "got", "expected")}
                what = f"rank {outcome.rank} failed: {outcome.error['what']}"
                return PeerLost(what, **fields, hint=outcome.error["hint"])
        time.sleep(_POLL_S)
    return error


def leave_process(code: int) -> None:
    """End at once: an exchange that lost its peer may hold up the interpreter's own end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
