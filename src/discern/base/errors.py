"""The exception tree. Owns how a failure is told: what, where, got, expected, hint.

One root, six branches. The fields, not only the text, travel to the terminal, to `--json` and to
web pages, so that all print the same facts. `EXIT_CODES` maps a branch to the exit code.
"""

from __future__ import annotations

import errno
import re
from typing import Any, Final

OK: Final = 0
RUN_FAILURE: Final = 1
USAGE: Final = 2
CHECK_FAILED: Final = 3
INTERRUPTED: Final = 130


class DiscernError(Exception):
    """A failure told in the user's words.

    `what`: one sentence, what went wrong. `where`: file, key path, stage or step. `got` and
    `expected`: the value met and the values allowed. `hint`: what to try next.
    """

    kind = "error"
    exit_code = RUN_FAILURE

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.got = None if got is None else str(got)
        self.expected = None if expected is None else str(expected)
        self.hint = hint

    def record(self) -> dict[str, Any]:
        """The failure as the JSON object of `--json`: kind, what, where, got, expected, hint."""
        return {
            "kind": self.kind,
            "what": self.what,
            "where": self.where,
            "got": self.got,
            "expected": self.expected,
            "hint": self.hint,
        }

    def __str__(self) -> str:
        lines = [self.what]
        for name in ("where", "got", "expected"):
            value = getattr(self, name)
            if value is not None:
                lines.append(f"  {name + ':':<10}{value}")
        if self.hint:
            lines.append(f"  {'try:':<10}{self.hint}")
        return "\n".join(lines)


class ConfigError(DiscernError):
    """A flag, config file, key or value that cannot be used."""

    kind = "config"
    exit_code = USAGE


class UnknownItem(ConfigError, AttributeError):
    """A name that is no item of lazy configs; an AttributeError too, as `hasattr` expects."""


class UsedItem(ConfigError, ValueError):
    """An item set after its value was used: whoever used it would not learn of the new one."""


class ItemError(ConfigError):
    """An item without a value, or one that needs itself."""


class DataError(DiscernError):
    """Images, tables, manifests or packed files that cannot be used as they are."""

    kind = "data"
    exit_code = RUN_FAILURE


class DamagedRecords(DataError):
    """A record file that is cut short or broken at byte `offset`: the record that begins there."""

    def __init__(self, what: str, path: object, offset: int, got: str, expected: str) -> None:
        super().__init__(
            what,
            where=f"{path}, byte {offset}",
            got=got,
            expected=expected,
            hint="copy or pack the file again; what lies before this byte can be read",
        )
        self.offset = offset


class ModelError(DiscernError):
    """A network, its weights, or a bundle that cannot be built, read or fitted."""

    kind = "model"
    exit_code = RUN_FAILURE


class RunError(DiscernError):
    """A training or another run that could not go on."""

    kind = "run"
    exit_code = RUN_FAILURE


class SystemRefusal(RunError):
    """The operating system refused to read or write a file."""

    def __init__(self, error: OSError) -> None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        place = error.filename
        if isinstance(place, str):  # a temporary sibling is told by the name that it stands for
            place = re.sub(r"(^|/)\.([^/]+)\.tmp-[0-9]+-[0-9a-f]+", r"\1\2", place)
        super().__init__(
            "the disk is full" if full else "a file or folder cannot be used",
            where=place,
            got=error.strerror or str(error),
            hint="free some space; what was saved before is whole"
            if full
            else "check that the place exists and that you may read and write there",
        )


class PartError(RunError):
    """A part of the user's own raised something: told with the traceback in that part."""


class PeerLost(RunError):
    """Another rank is gone, so this one cannot go on; what went wrong is told by the other."""


class AccessError(DiscernError):
    """Somebody may not do this."""

    kind = "access"
    exit_code = RUN_FAILURE


class WorkloadError(DiscernError):
    """A job, lab or endpoint that could not be started, stopped or found."""

    kind = "workload"
    exit_code = RUN_FAILURE


class InternalError(DiscernError):
    """A fault of Discern itself: told with its traceback."""

    kind = "internal"
    exit_code = RUN_FAILURE


class Interrupted(DiscernError):
    """The run was asked to stop; its state is saved and it can be resumed."""

    kind = "interrupted"
    exit_code = INTERRUPTED


_KINDS: Final = {
    branch.kind: branch
    for branch in (
        ConfigError, DataError, ModelError, RunError, AccessError, WorkloadError, InternalError,
        Interrupted,
    )
}  # fmt: skip


def error_from_record(record: dict[str, Any]) -> DiscernError:
    """The failure that another process told by `record`."""
    branch = _KINDS.get(record["kind"], DiscernError)
    fields = {name: record[name] for name in ("where", "got", "expected", "hint")}
    return branch(record["what"], **fields)
