"""Reads the project's own tree for the architecture tests: its text files and parsed modules."""

from __future__ import annotations

import ast
import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"


@dataclass(frozen=True)
class Module:
    """One module of the package: where it is, its text and its syntax tree."""

    path: Path
    name: str
    text: str
    tree: ast.Module

    def at(self, node: ast.stmt | ast.expr) -> str:
        """`src/discern/a.py:12`, the way an editor opens it."""
        return f"{self.path.relative_to(ROOT)}:{node.lineno}"


def parse(path: Path, text: str) -> Module:
    """The module whose file is `path`, with the text given."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(path, name, text, ast.parse(text))


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every module below src, in path order."""
    return tuple(
        parse(path, path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))
    )


@functools.cache
def project_texts() -> tuple[tuple[str, str], ...]:
    """(relative path, text) of each text file that is or would be tracked."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    texts = []
    for name in sorted(set(listing.stdout.decode().split("\0")) - {""}):
        path = ROOT / name
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            texts.append((name, data.decode("utf-8", errors="replace")))
    return tuple(texts)
