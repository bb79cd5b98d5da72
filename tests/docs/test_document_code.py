"""The code in the documents runs, links lead somewhere, the two promised commands work."""

from __future__ import annotations

import json
import re

import pytest
from markdown_blocks import (
    ROOT,
    Block,
    documents,
    read_blocks,
    reader_environment,
    run_block,
    script_of,
)

PAGES = [path.relative_to(ROOT).as_posix() for path in documents()]
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")


def blocks_of(page):
    return read_blocks((ROOT / page).read_text(encoding="utf-8"), page)


CODE = {
    wanted: [page for page in PAGES if any(block.run == wanted for block in blocks_of(page))]
    for wanted in ("yes", "slow")
}


def run_in_order(blocks, tmp_path, *, cold=False):
    """Run them in one new folder, which it gives; a block that fails raises AssertionError."""
    cold = cold or all(block.language == "python" for block in blocks)
    environment = reader_environment(tmp_path / "home", cold=cold)
    folder = tmp_path / "reader"
    folder.mkdir()
    for block in blocks:
        run_block(block, folder, environment)
    return folder


@pytest.mark.feature("PP-30")
@pytest.mark.parametrize("page", CODE["yes"])
def test_code_of_the_page_runs(page, tmp_path):
    run_in_order([block for block in blocks_of(page) if block.run == "yes"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", CODE["slow"])
def test_slow_code_of_the_page_runs(page, tmp_path):
    run_in_order([block for block in blocks_of(page) if block.run in ("yes", "slow")], tmp_path)


def test_readme_and_the_page_of_data_have_code_to_run():
    assert {"README.md", "docs/data.md"} <= set(CODE["yes"])


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    path = ROOT / page
    targets = LINK.findall(path.read_text(encoding="utf-8"))
    assert [] == [target for target in targets if not (path.parent / target).exists()]


def named_command(name):
    """The one line of the README block that `<!-- command: NAME -->` marks."""
    lines = [
        line
        for block in blocks_of("README.md")
        if block.command == name
        for line in script_of(block).splitlines()
    ]
    assert len(lines) == 1, f"README.md needs one line marked <!-- command: {name} -->, has {lines}"
    return lines[0]


def test_readme_gives_install_and_test_in_one_line():
    install, _, test = named_command("test").rpartition(" && ")
    assert install == "pip install -e '.[dev]'"
    assert test.split()[0] == "pytest"


@pytest.mark.parametrize(
    ("more", "least"),
    [(" --epochs 2", 0.9), pytest.param("", 0.98, marks=pytest.mark.slow)],
    ids=["two epochs", "as it stands"],
)
def test_first_command_of_the_readme_trains(more, least, tmp_path):
    install, _, train = named_command("train").rpartition(" && ")
    assert install == "pip install ."
    assert train.startswith("discern train digits")
    block = Block("README.md", 0, "sh", f"{train}{more}\n")
    folder = run_in_order([block], tmp_path, cold=True)
    (run,) = (folder / "runs" / "digits").iterdir()
    assert least <= json.loads((run / "run.json").read_text())["metrics"]["accuracy"]
    assert (run / "model" / "model.safetensors").is_file()
    assert (run / "report" / "index.html").is_file()


def test_first_command_of_the_readme_plans_thirty_epochs(tmp_path):
    """What it trains without `--epochs`; the whole training is among the slow tests."""
    _, _, train = named_command("train").rpartition(" && ")
    block = Block("README.md", 0, "sh", f"{train} --dry-run --json > plan.json\n")
    plan = json.loads((run_in_order([block], tmp_path) / "plan.json").read_text())
    assert [(30, 1200)] == [(stage["epochs"], stage["steps"]) for stage in plan["stages"]]


TEXT = """Words.
<!-- run: no (installs) --> <!-- command: test -->

```sh
pip install .
```

```console
$ discern doctor
cpu  ok
$ discern models list
```

```text
<!-- run: slow -->
```
"""


def test_markers_belong_to_the_next_block():
    first, second = read_blocks(TEXT, "a.md")
    assert first == Block("a.md", 4, "sh", "pip install .\n", "no (installs)", "test")
    assert second.place == "a.md:8"
    assert second.run == "yes"
    assert script_of(second) == "discern doctor\ndiscern models list\n"


def test_text_between_marker_and_block_ends_the_marker():
    (block,) = read_blocks("<!-- run: slow -->\nBut.\n```sh\ntrue\n```\n", "a.md")
    assert block.run == "yes"


@pytest.mark.parametrize("marker", ["never", "no", "no ()"])
def test_marker_without_a_reason_is_refused(marker):
    with pytest.raises(ValueError, match=r"a\.md:2"):
        read_blocks(f"<!-- run: {marker} -->\n```sh\ntrue\n```\n", "a.md")


def test_failing_block_names_its_place(tmp_path):
    with pytest.raises(AssertionError, match=r"a\.md:7 ended with 3"):
        run_in_order([Block("a.md", 7, "sh", "exit 3\n")], tmp_path)


def test_blocks_share_one_folder(tmp_path):
    write = Block("a.md", 1, "python", "open('x', 'w').write('1')\n")
    read = Block("a.md", 5, "console", '$ test "$(cat x)" = 1\n')
    assert "1" == (run_in_order([write, read], tmp_path) / "x").read_text()
