from __future__ import annotations

import subprocess

from discern.track.git_state import MOST_DIFF_BYTES, git_state


def git(folder, *arguments: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(folder), *settings, *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_commit_branch_and_changes_are_recorded(tmp_path):
    git(tmp_path, "init", "-q", "-b", "topic")
    (tmp_path / "a.txt").write_text("one\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = git_state(tmp_path)
    assert clean == {
        "commit": git(tmp_path, "rev-parse", "HEAD"),
        "branch": "topic",
        "dirty": False,
        "diff": "",
        "diff_cut": False,
    }
    (tmp_path / "a.txt").write_text("two\n")
    changed = git_state(tmp_path)
    assert changed["dirty"]
    assert "-one\n+two\n" in changed["diff"]
    (tmp_path / "a.txt").write_text("long line\n" * MOST_DIFF_BYTES)
    assert (MOST_DIFF_BYTES, True) == (
        len(git_state(tmp_path)["diff"]),
        git_state(tmp_path)["diff_cut"],
    )


def test_repository_without_a_commit_and_no_repository_are_unknown(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q", "-b", "topic")
    empty = git_state(tmp_path)
    assert ("unknown", "topic", False) == (empty["commit"], empty["branch"], empty["dirty"])
    monkeypatch.setenv("PATH", str(tmp_path))
    without = git_state(tmp_path)
    assert ("unknown", "unknown", None, "") == tuple(
        without[key] for key in ("commit", "branch", "dirty", "diff")
    )
