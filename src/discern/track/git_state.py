"""The state of the git repository around a folder: commit, branch, changes not committed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

UNKNOWN: Final = "unknown"
# run.json is rewritten with each update; a larger diff is cut, and the record says so.
MOST_DIFF_BYTES: Final = 100_000
_TIMEOUT_S: Final = 10.0


def git_state(folder: Path) -> dict[str, Any]:
    """`commit`, `branch`, `dirty`, `diff` (tracked files against the commit), `diff_cut`.

    Commit and branch are 'unknown', dirty is None outside of a repository and without git.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain")
    branch = _git(folder, "symbolic-ref", "--short", "-q", "HEAD")
    diff = _git(folder, "diff", "--no-ext-diff", "--no-color", "HEAD") if commit else None
    data = (diff or "").encode("utf-8", "replace")
    return {
        "commit": (commit or "").strip() or UNKNOWN,
        "branch": (branch or "").strip() or UNKNOWN,
        "dirty": None if status is None else bool(status.strip()),
        "diff": data[:MOST_DIFF_BYTES].decode("utf-8", "ignore"),
        "diff_cut": len(data) > MOST_DIFF_BYTES,
    }


def git_account(folder: Path) -> dict[str, Any]:
    """`message` of the commit, `remotes` (addresses without passwords), the whole `diff`."""
    remotes = _git(folder, "remote", "-v") or ""
    addresses = (line.split()[1] for line in remotes.splitlines() if len(line.split()) > 1)
    return {
        "message": (_git(folder, "log", "-1", "--format=%s") or "").strip() or UNKNOWN,
        "remotes": sorted({re.sub(r"//[^/@]+@", "//", address) for address in addresses}),
        "diff": _git(folder, "diff", "--no-ext-diff", "--no-color", "HEAD") or "",
    }


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of a git command that changes nothing; None if it fails or there is no git."""
    # Without this, `status` may take the index's lock under a person's own git command.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        out = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return out.stdout.decode("utf-8", "replace") if out.returncode == 0 else None
