"""What a foreign command is called, and the settings that stand on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

_SCRIPTS: Final = (".py", ".sh", ".ipynb", ".R", ".jl", ".lua", ".pl")


def program_name(command: Sequence[str]) -> str:
    """The script that an interpreter is given, else the program; without folder and ending."""
    words = [word for word in command if not word.startswith("-")]
    for place, word in enumerate(command[:-1]):
        if word == "-m" and place:
            return command[place + 1].rpartition(".")[2]
    for word in words:
        if Path(word).suffix in _SCRIPTS:
            return Path(word).stem
    return Path(command[0]).name


def program_settings(command: Sequence[str]) -> dict[str, Any]:
    """The settings on a command: `--lr 0.1`, `--lr=0.1`, `optimizer.lr=0.1`, `--amp` (True)."""
    found: dict[str, Any] = {}
    words = list(command[1:])
    for place, word in enumerate(words):
        name, sign, value = word.partition("=")
        flag = name.lstrip("-")
        if not flag or not flag[0].isalpha():
            continue
        if sign and (name.startswith("-") or name.replace(".", "_").isidentifier()):
            found[flag] = _value(value)
        elif name.startswith("--") and not sign:
            following = words[place + 1] if place + 1 < len(words) else "-"
            is_value = _is_number(following) if following[:1] == "-" else "=" not in following
            found[flag] = _value(following) if is_value else True
    return found


def _is_number(text: str) -> bool:
    return not isinstance(_value(text), str)


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "True": True, "false": False, "False": False}.get(text, text)
