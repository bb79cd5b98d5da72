"""Makes docs/commands.md and docs/config.md from the flag table and the config schema.

`python tests/docs/reference_pages.py` rewrites both; a test fails when one is stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMANDS_PAGE = ROOT / "docs" / "commands.md"
CONFIG_PAGE = ROOT / "docs" / "config.md"

_NOTE = "Made by `python tests/docs/reference_pages.py`; do not edit."


def commands_text(flags: Iterable[Any], commands: Mapping[str, str]) -> str:
    """The flag table as Markdown, one section a command.

    `flags`: records with name, aliases, key, help and commands. `commands`: name -> help of every
    command of the program.
    """
    flags = list(flags)
    lines = [
        "# Commands",
        "",
        _NOTE,
        "",
        "`discern COMMAND --help` shows the same on the terminal.",
    ]
    lines += ["Flags with a config key are spellings of it; all else is `--set key=value`."]
    for command in sorted(commands):
        lines += ["", f"## discern {command}", "", commands[command]]
        rows = [
            f"| {_spellings(flag)} | {_code(flag.key)} | {_cell(flag.help)} |"
            for flag in flags
            if command in flag.commands
        ]
        if rows:
            lines += ["", "| flag | config key | what it does |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def config_text(schema: Mapping[str, Any]) -> str:
    """A JSON schema of the config as a Markdown table of key paths."""
    lines = ["# Config keys", "", _NOTE, ""]
    lines += [
        "`discern config explain KEY` shows one of them; `discern config schema` all as JSON."
    ]
    lines += ["A `*` stands for a name of your choice.", ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{key}` | {_cell(kind)} | {_code(default)} | {_cell(meaning)} |"
        for key, kind, default, meaning in config_keys(schema)
    ]
    return "\n".join(lines) + "\n"


def config_keys(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """(key path, type, default as JSON or "", description) of every leaf, in schema order."""
    yield from _keys_below(schema, "", schema.get("$defs", {}))


def _keys_below(
    node: Mapping[str, Any], path: str, shared: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, str]]:
    for name, field in node.get("properties", {}).items():
        key = f"{path}.{name}" if path else name
        target = _resolve(field, shared)
        values = target.get("additionalProperties")
        named = _resolve(values, shared) if isinstance(values, Mapping) else {}
        if "properties" in target and set(target["properties"]) != {"name", "args"}:
            yield from _keys_below(target, key, shared)
        elif "properties" in named:
            yield from _keys_below(named, f"{key}.*", shared)
        else:
            default = json.dumps(field["default"], ensure_ascii=False) if "default" in field else ""
            meaning = field.get("description") or target.get("description", "")
            yield key, _type_text(field, shared), default, " ".join(meaning.split())


def _resolve(field: Mapping[str, Any], shared: Mapping[str, Any]) -> Mapping[str, Any]:
    """The definition behind a reference, also behind an optional one."""
    if "$ref" in field:
        return shared[field["$ref"].rpartition("/")[2]]
    if "allOf" in field and len(field["allOf"]) == 1:
        return _resolve(field["allOf"][0], shared)
    options = [o for o in field.get("anyOf", []) if o.get("type") != "null"]
    if len(options) == 1:
        return _resolve(options[0], shared)
    return field


def _type_text(field: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type_text(o, shared) for o in field["anyOf"]))
    target = _resolve(field, shared)
    if "enum" in target:
        return ", ".join(str(value) for value in target["enum"])
    if "const" in target:
        return str(target["const"])
    if set(target.get("properties", {})) == {"name", "args"}:
        return "name, or name and args"
    kind = str(target.get("type", "any"))
    if kind == "array":
        items = target.get("items", {})
        return f"list of {_type_text(items, shared)}" if items else "list"
    return {"object": "mapping", "null": "none", "number": "number"}.get(kind, kind) + _limits(
        target
    )


def _limits(target: Mapping[str, Any]) -> str:
    signs = {
        "minimum": ">=",
        "exclusiveMinimum": ">",
        "maximum": "<=",
        "exclusiveMaximum": "<",
    }
    return "".join(f" {sign} {target[name]:g}" for name, sign in signs.items() if name in target)


def _spellings(flag: Any) -> str:
    return ", ".join(f"`{spelling}`" for spelling in (flag.name, *flag.aliases))


def _code(text: str | None) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def current_pages() -> dict[Path, str]:
    """Page -> the text that it should have now."""
    from discern.cli import flags
    from discern.config.schema import RunConfig

    return {
        COMMANDS_PAGE: commands_text(flags.FLAGS, flags.COMMANDS),
        CONFIG_PAGE: config_text(RunConfig.model_json_schema()),
    }


if __name__ == "__main__":
    for page, text in current_pages().items():
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page}")
