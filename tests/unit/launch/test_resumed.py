"""Which earlier run `--resume` means."""

from __future__ import annotations

import pytest

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.cli.rerun_command import rerun_command
from discern.config.request import Request
from discern.launch.resumed import named_run
from discern.track.run import create_run


def asking(resume):
    return Request(
        verb="train", arguments={"resume": resume}, files=[], pairs=[], sets=[],
        json=False, quiet=False, debug=False,
    )  # fmt: skip


@pytest.fixture
def root(tmp_path):
    """A training that failed, and after it runs of other programs that failed."""
    create_run(tmp_path, "p", name="own").finish("failed", "for a test")
    for kind in ("captured", "lab", "imported"):
        create_run(tmp_path, "p", name=kind, record={"kind": kind}).finish("failed", "for a test")
    return tmp_path


def test_the_latest_unfinished_run_is_a_training(root):
    assert "own" == named_run(asking(""), root).name


@pytest.mark.parametrize("kind", ["captured", "lab", "imported"])
def test_a_run_of_another_program_is_not_gone_on_with(root, kind):
    with pytest.raises(ConfigError, match="not made by `discern train`") as told:
        named_run(asking(f"p/{kind}"), root)
    assert kind == told.value.got


def test_a_captured_program_is_not_done_again_as_a_training(root):
    command = ["python", "net.py", "--note", "a b"]
    fields = {"kind": "captured", "command": command}
    create_run(root, "p", name="cmd", record=fields).finish("finished", "for a test")
    with pytest.raises(ConfigError, match="only a training") as told:
        rerun_command("p/cmd", root, Console())
    assert "discern capture -- python net.py --note 'a b'" == told.value.hint
