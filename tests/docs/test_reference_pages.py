"""Every command, flag, config key and error class is documented, and the pages are current."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace

import pytest
from reference_pages import COMMANDS_PAGE, CONFIG_PAGE, commands_text, config_keys, current_pages
from source_tree import ROOT, modules

from discern.base import errors
from discern.config.schema import RunConfig

ERROR_ROW = re.compile(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \| (.+) \|$", re.MULTILINE)


@pytest.mark.parametrize("page", [COMMANDS_PAGE, CONFIG_PAGE], ids=lambda page: page.name)
def test_reference_page_is_current(page):
    assert page.read_text(encoding="utf-8") == current_pages()[page], (
        f"docs/{page.name} is stale: python tests/docs/reference_pages.py"
    )


def test_every_config_key_says_what_it_means():
    keys = list(config_keys(RunConfig.model_json_schema()))
    assert len(keys) > 20
    assert [] == [key for key, _, _, meaning in keys if not meaning]


def test_every_flag_and_command_says_what_it_does():
    from discern.cli import flags

    assert [] == [flag.name for flag in flags.FLAGS if not flag.help]
    assert [] == [name for name, text in flags.COMMANDS.items() if not text]
    named = {command for flag in flags.FLAGS for command in flag.commands}
    assert named <= set(flags.COMMANDS)


def test_every_error_class_is_documented():
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = {name: (kind, int(code)) for name, kind, code, _ in ERROR_ROW.findall(page)}
    tree = {
        name: (value.kind, value.exit_code)
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.DiscernError)
    }
    assert rows == tree


def test_error_classes_live_in_one_module():
    branches = {name for name in vars(errors) if name.endswith("Error")} | {"Interrupted"}
    strays = [
        f"{module.at(node)} {node.name}"
        for module in modules()
        if module.name != "discern.base.errors"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        and branches & {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    ]
    assert [] == strays, "an error class that docs/errors.md cannot know"


def test_commands_page_lists_flags_by_command():
    flags = [
        SimpleNamespace(
            name="--epochs",
            aliases=("-e",),
            key="epochs",
            help="passes | data",
            commands=("train",),
        ),
        SimpleNamespace(name="--json", aliases=(), key=None, help="one object", commands=("eval",)),
    ]
    text = commands_text(flags, {"train": "Trains.", "eval": "Scores.", "doctor": "Checks."})
    assert "## discern train\n\nTrains.\n" in text
    assert "| `--epochs`, `-e` | `epochs` | passes \\| data |" in text
    assert text.index("## discern doctor") < text.index("## discern eval") < text.index("`--json`")
    assert text.count("`--json`") == 1


def test_config_keys_follow_references_mappings_and_limits():
    schema = {
        "$defs": {
            "Stage": {
                "properties": {"lr": {"type": "number", "exclusiveMinimum": 0, "default": 1}}
            },
            "Net": {"properties": {"name": {"type": "string"}, "args": {"type": "object"}}},
        },
        "properties": {
            "stages": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Stage"}},
            "first": {"anyOf": [{"$ref": "#/$defs/Stage"}, {"type": "null"}]},
            "net": {"$ref": "#/$defs/Net", "description": "the\nnetwork"},
            "sizes": {"type": "array", "items": {"type": "integer", "minimum": 4}},
        },
    }
    assert list(config_keys(schema)) == [
        ("stages.*.lr", "number > 0", "1", ""),
        ("first.lr", "number > 0", "1", ""),
        ("net", "name, or name and args", "", "the network"),
        ("sizes", "list of integer >= 4", "", ""),
    ]
