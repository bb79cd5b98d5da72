"""Writing a config as YAML for people: block form, a comment behind each value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from discern.config.yaml_text import KeyPath, dump_text

_WIDTH: Final = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


def commented_text(
    value: Mapping[str, Any], comments: Mapping[KeyPath, str], head: Sequence[str] = ()
) -> str:
    """`value` as YAML that reads back equal. `comments`: by key path; `head`: lines on top."""
    lines = [f"# {_one_line(line)}".rstrip() for line in head]
    lines += [""] if lines else []
    return "\n".join(lines + _lines(value, comments, ())) + "\n"


def _lines(value: Mapping[str, Any], comments: Mapping[KeyPath, str], path: KeyPath) -> list[str]:
    lines: list[str] = []
    for key, inner in value.items():
        here = (*path, key)
        start = "  " * len(path) + _scalar(key) + ":"
        comment = comments.get(here)
        if isinstance(inner, Mapping) and inner and (comment is None or not _flat(inner)):
            lines.append(start + ("" if comment is None else f"  # {_one_line(comment)}"))
            lines += _lines(inner, comments, here)
            continue
        line = f"{start} {_flow(inner)}"
        lines.append(line if comment is None else f"{line}  # {_one_line(comment)}")
    return lines


def _flat(value: Any) -> bool:
    return len(_flow(value)) <= _WIDTH


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """One value in flow form: texts quoted where YAML would read something else."""
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_./][\w./-]*", value):
        quoted = json.dumps(value, ensure_ascii=False)
        return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
    text = dump_text({"a": value}).removeprefix("a:").strip()
    return text or "''"


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text)
