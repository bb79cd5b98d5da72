"""Code blocks of the documents: finds them, reads their markers, runs them as a reader would.

A block is run unless a comment above it says otherwise:

    <!-- run: slow -->             only with the slow tests
    <!-- run: no (installs) -->    never, and why
    <!-- command: test -->         names the block, for the tests and for .ci/run

`sh` and `console` blocks are for bash (in a `console` block the lines behind `$ ` are the
commands, the rest is what they print), `python` blocks for the interpreter. Other languages are
pictures and not run. The blocks of one document run in order, in one empty folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import warm_command
from warm_child import environment, fits_warm, warm_socket

ROOT = Path(__file__).resolve().parents[2]
RUNNABLE = ("sh", "console", "python")

_COMMENT = re.compile(r"<!--\s*(\w+):\s*(.*?)\s*-->")
_WHY = re.compile(r"no \((.+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block: document, line of the fence, language, text, and its markers."""

    document: str
    line: int
    language: str
    text: str
    run: str = "yes"
    command: str = ""

    @property
    def place(self) -> str:
        """`README.md:12`."""
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    """README, CONTRIBUTING and every page below docs."""
    named = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return [*named, *sorted((ROOT / "docs").rglob("*.md"))]


def read_blocks(text: str, document: str) -> list[Block]:
    """The runnable blocks of a Markdown text; raises ValueError for a marker not understood."""
    blocks: list[Block] = []
    markers: dict[str, str] = {}
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number].strip()
        if line.startswith("```"):
            end = number + 1
            while end < len(lines) and lines[end].strip() != "```":
                end += 1
            language = line[3:].strip()
            if language in RUNNABLE:
                body = "\n".join(lines[number + 1 : end]) + "\n"
                blocks.append(Block(document, number + 1, language, body, **markers))
            elif markers:
                raise ValueError(f"{document}:{number + 1}: a marker above a block that never runs")
            markers = {}
            number = end
        elif line:
            found = dict(_COMMENT.findall(line))
            markers |= {key: value for key, value in found.items() if key in ("run", "command")}
            if not found:
                markers = {}
        number += 1
    for block in blocks:
        if block.run not in ("yes", "slow") and not _WHY.fullmatch(block.run):
            raise ValueError(f"{block.place}: marker 'run: {block.run}', expected slow or no (why)")
    return blocks


def script_of(block: Block) -> str:
    """What bash or the interpreter gets; of a console block only the lines behind `$ `."""
    if block.language != "console":
        return block.text
    return "".join(
        line[2:] + "\n" for line in block.text.splitlines() if line.startswith(("$ ", "> "))
    )


def reader_environment(home: Path, *, cold: bool = False) -> dict[str, str]:
    """The environment of a reader: an empty home, `discern` and `python` on PATH.

    `discern` is forked from the warm parent, as in the flow tests, or `cold` a new interpreter.
    """
    tools = home / "bin"
    tools.mkdir(parents=True, exist_ok=True)
    command = " -m discern.cli.main"
    if not cold and fits_warm(environment()):
        command = f' -S "{warm_command.__file__}" "{warm_socket()}"'
    for name, call in {"discern": command, "python": ""}.items():
        tool = tools / name
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}"{call} "$@"\n')
        tool.chmod(0o755)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DISCERN_", "XDG_", "PYTEST_"))
    }
    return kept | {
        "HOME": str(home),
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
    }


def run_block(block: Block, folder: Path, environment: dict[str, str]) -> None:
    """Run one block inside `folder`; raises AssertionError with its output if it fails."""
    if block.language == "python":
        call = [sys.executable, "-c", script_of(block)]
    else:
        call = ["bash", "-euo", "pipefail", "-c", script_of(block)]
    child = subprocess.run(
        call,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise AssertionError(
            f"{block.place} ended with {child.returncode}\n{block.text}\n"
            f"{child.stdout[-3000:]}\n{child.stderr[-3000:]}"
        )
