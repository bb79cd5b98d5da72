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


def commands_text(root: Any, flags: Iterable[Any]) -> str:
    """The program's commands as Markdown, one section each.

    `root`: the command tree as typer builds it. `flags`: the table of flags that spell config keys.
    """
    keys = {(command, flag.name): flag.key for flag in flags for command in flag.commands}
    lines = ["# Commands", "", _NOTE, ""]
    lines += ["`discern COMMAND --help` shows the same on the terminal. A flag with a config key"]
    lines += ["is a spelling of it; all other keys are set by `--set KEY=VALUE`."]
    for name, command in leaf_commands(root):
        arguments = [_place(p) for p in command.params if p.param_type_name == "argument"]
        lines += ["", f"## {' '.join(['discern', name])}", "", (command.help or "").strip(), ""]
        lines += ["```text", " ".join(["discern", name, *arguments, "[FLAGS]"]), "```"]
        rows = [
            _parameter_row(parameter, keys.get((name, parameter.opts[0])))
            for parameter in command.params
            if not parameter.hidden
        ]
        if rows:
            lines += [
                "",
                "| argument or flag | config key | what it says |",
                "|---|---|---|",
                *rows,
            ]
    return "\n".join(lines) + "\n"


def leaf_commands(root: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(`runs list`, its command) of every command that does something, in name order."""
    below = getattr(root, "commands", None)
    if not below:
        yield " ".join(path), root
        return
    for name in sorted(below):
        if not below[name].hidden:
            yield from leaf_commands(below[name], (*path, name))


def config_text(schema: Mapping[str, Any]) -> str:
    """A JSON schema of the config as a Markdown table of key paths."""
    lines = ["# Config keys", "", _NOTE, ""]
    lines += ["`discern config explain KEY` shows one of them, `discern config schema` all."]
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
    return {"object": "mapping", "null": "none"}.get(kind, kind) + _limits(target)


def _limits(target: Mapping[str, Any]) -> str:
    signs = {
        "minimum": ">=",
        "exclusiveMinimum": ">",
        "maximum": "<=",
        "exclusiveMaximum": "<",
    }
    return "".join(f" {sign} {target[name]:g}" for name, sign in signs.items() if name in target)


def _place(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _parameter_row(parameter: Any, key: str | None) -> str:
    # On the terminal the help ends with the key, which has a column of its own here.
    text = (parameter.help or "").removesuffix(f"[{key}]").rstrip()
    spellings = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        spellings = [parameter.name.upper()]
    written = ", ".join(f"`{spelling}`" for spelling in spellings)
    return f"| {written} | {_code(key)} | {_cell(text)} |"


def _code(text: str | None) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def command_tree() -> Any:
    """The commands of `discern` as typer builds them."""
    import typer

    from discern.cli import main

    return typer.main.get_command(main.app)


def current_pages() -> dict[Path, str]:
    """Page -> the text that it should have now."""
    from discern.cli.flags import FLAGS
    from discern.config.schema import RunConfig

    return {
        COMMANDS_PAGE: commands_text(command_tree(), FLAGS),
        CONFIG_PAGE: config_text(RunConfig.model_json_schema()),
    }


if __name__ == "__main__":
    for page, text in current_pages().items():
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page}")
