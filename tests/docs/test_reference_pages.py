"""Every command, flag, config key and error class is documented, and the pages are current."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace
from typing import Annotated

import pytest
import typer
from reference_pages import (
    COMMANDS_PAGE,
    CONFIG_PAGE,
    command_tree,
    commands_text,
    config_keys,
    current_pages,
    leaf_commands,
)
from source_tree import ROOT, modules

from discern.base import errors
from discern.cli.flags import FLAGS
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


def test_every_command_and_flag_says_what_it_does():
    commands = dict(leaf_commands(command_tree()))
    assert {"train", "eval", "predict", "doctor", "runs list", "models show"} <= set(commands)
    assert [] == [name for name, command in commands.items() if not command.help]
    silent = [
        f"{name} {parameter.opts[0]}"
        for name, command in commands.items()
        for parameter in command.params
        if not parameter.hidden and not parameter.help
    ]
    assert [] == silent


def test_flag_table_command_line_and_schema_agree():
    commands = dict(leaf_commands(command_tree()))
    keys = {key for key, *_ in config_keys(RunConfig.model_json_schema())}
    assert [] == [flag.name for flag in FLAGS if flag.key not in keys]
    for flag in FLAGS:
        for name in flag.commands:
            spellings = {s for parameter in commands[name].params for s in parameter.opts}
            assert {flag.name, *flag.aliases} <= spellings, f"discern {name} lacks {flag.name}"


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


def small_program():
    app, runs = typer.Typer(), typer.Typer()

    @app.command()
    def train(
        data: Annotated[str, typer.Argument(help="images")],
        epochs: Annotated[int, typer.Option("--epochs", "-e", help="passes | data")] = 3,
        secret: Annotated[bool, typer.Option("--secret", hidden=True, help="x")] = False,
    ):
        """Trains."""

    @runs.command("list")
    def list_runs(as_json: Annotated[bool, typer.Option("--json", help="one object")] = False):
        """Lists runs."""

    app.add_typer(runs, name="runs")
    return typer.main.get_command(app)


def test_commands_page_lists_flags_by_command():
    flags = [SimpleNamespace(name="--epochs", key="stages.*.epochs", commands=("train",))]
    text = commands_text(small_program(), flags)
    assert "## discern runs list\n\nLists runs.\n" in text
    assert "| `--json` |  | one object |" in text
    assert "| `DATA` |  | images |" in text
    assert "discern train DATA [FLAGS]" in text
    assert "| `--epochs`, `-e` | `stages.*.epochs` | passes \\| data |" in text
    assert "--secret" not in text


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
