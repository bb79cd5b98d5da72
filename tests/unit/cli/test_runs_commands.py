from __future__ import annotations

import csv
import io
import json
import math

import pytest

from discern.base.console import Console
from discern.base.errors import ConfigError, RunError
from discern.cli.runs_commands import export_command, show_command
from discern.cli.runs_list_command import list_command, views_command
from discern.track.run import create_run
from discern.track.run_views import Column, View


@pytest.fixture
def root(tmp_path):
    with create_run(
        tmp_path, "flowers", name="lenet-1", record={"choices": {"precision": "bf16"}}
    ) as writer:
        for step in (1, 2):
            writer.metrics.add("loss", step, 1.0 / step, time=1_700_000_000.0 + step)
        writer.metrics.add("=odd", 2, math.nan, time=1_700_000_002.5)
        writer.update(metrics={"accuracy": 0.96875, "loss": 0.5})
    writer = create_run(tmp_path, "birds", name="resnet-1")
    writer.finish("failed", "loss is not finite", RunError("loss is not finite"))
    return tmp_path


def test_list_is_newest_first_with_scores(root, capsys):
    assert list_command(root, Console()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["birds/resnet-1", "failed"] == lines[2].split()[:2]
    assert ["flowers/lenet-1", "finished"] == lines[3].split()[:2]
    assert ["0.9688", "0.5"] == lines[3].split()[-2:]


def test_list_json_holds_id_project_name_status_metrics(root, capsys):
    list_command(root, Console(json=True), View(project="flowers"))
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    del run["created"], run["seconds"]
    assert run == {
        "id": "flowers/lenet-1",
        "project": "flowers",
        "name": "lenet-1",
        "status": "finished",
        "title": "",
        "tags": [],
        "metrics": {"accuracy": 0.96875, "loss": 0.5},
        "problem": None,
    }
    list_command(root, Console(json=True), View(status="failed"))
    assert ["resnet-1"] == [r["name"] for r in json.loads(capsys.readouterr().out)["runs"]]


def test_list_shows_chosen_columns_and_survives_odd_values(root, capsys):
    columns = (
        Column("name", "run", 5),
        Column("metrics.accuracy"),
        Column("choices.precision", "type"),
        Column("seconds", visible=False),
    )
    assert list_command(root, Console(), View(columns=columns, sort=("name",))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["run", "metrics.accuracy", "type"] == lines[0].split()
    assert ["lene…", "0.9688", "bf16"] == lines[2].split()
    assert ["resn…", "-", "-"] == lines[3].split()
    list_command(root, Console(json=True), View(columns=columns[:2], project="flowers"))
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert {"name": "lenet-1", "metrics.accuracy": 0.96875} == run["columns"]


def test_list_of_own_loops_shows_what_they_call_their_scores(tmp_path, capsys):
    for name, loss in (("one", 0.5), ("two", float("nan"))):
        with create_run(tmp_path, "mine", name=name) as writer:
            writer.update(metrics={"valid.loss": loss, "valid.accuracy": 0.75, "rate": 0.1})
    list_command(tmp_path, Console(), View(sort=("name",)))
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert ["valid.loss", "valid.accuracy"] == head.split()[-2:]
    assert [["0.5", "0.75"], ["nan", "0.75"]] == [row.split()[-2:] for row in rows]


def test_list_of_a_saved_view_yields_to_what_is_given(root, capsys):
    list_command(root, Console(), View(project="flowers", columns=(Column("id"),)), save_view="f")
    assert "view 'f' is saved" in capsys.readouterr().out
    list_command(root, Console(), View(), view="f")
    assert ["id", "flowers/lenet-1"] == capsys.readouterr().out.split()[::2]
    list_command(root, Console(), View(project="birds"), view="f", only="ids")
    assert ["birds/resnet-1"] == capsys.readouterr().out.split()
    assert views_command(root, Console(json=True), delete="f") == 0
    assert {"views": {}} == json.loads(capsys.readouterr().out)


def test_list_refuses_a_status_that_there_is_not(root):
    with pytest.raises(ConfigError, match="finishd") as told:
        list_command(root, Console(), View(status="finishd"))
    assert "'finished'" in told.value.hint


def test_list_without_runs_says_where_it_looked(tmp_path, capsys):
    assert list_command(tmp_path / "none", Console()) == 0
    assert f"no runs under {tmp_path / 'none'}" in capsys.readouterr().out


def test_show_tells_scores_choices_attempts_and_series(root, capsys):
    assert show_command("lenet-1", root, Console()) == 0
    text = capsys.readouterr().out
    for part in (
        "flowers/lenet-1  (finished)",
        "accuracy 0.9688",
        "precision: bf16",
        "exit code 0",
    ):
        assert part in text
    assert "chosen   precision: bf16" in text
    (loss,) = [line.split() for line in text.splitlines() if line.startswith("loss")]
    assert ["loss", "2", "2", "0.5", "0.5", "2"] == loss  # the last value, then the best
    show_command("resnet-1", root, Console(json=True))
    shown = json.loads(capsys.readouterr().out)
    assert ("failed", "loss is not finite", 1) == (
        shown["status"],
        shown["exit"]["reason"],
        shown["exit"]["exit_code"],
    )


def test_show_cuts_names_without_end(tmp_path, capsys):
    with create_run(tmp_path, "mine", name="one") as writer:
        writer.metrics.add("x" * 300, 1, 0.5, 0.0)
    show_command("one", tmp_path, Console())
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("xxx")]
    assert "x" * 59 + "…" == line.split()[0]


def test_show_tells_damaged_metrics(root, capsys):
    path = root / "flowers" / "lenet-1" / "metrics.bin"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(bytes(data))
    show_command("lenet-1", root, Console())
    assert f"damaged at byte 16, {len(data) - 16} bytes are not read" in capsys.readouterr().err


def test_show_and_export_tell_metrics_that_are_gone(root, capsys):
    (root / "flowers" / "lenet-1" / "metrics.bin").unlink()
    told = "metrics.bin is missing: the points of 2 series are lost"
    show_command("lenet-1", root, Console())
    assert told in capsys.readouterr().err
    export_command("lenet-1", root, Console())
    assert told in capsys.readouterr().err


def test_csv_export_holds_every_point_exactly(root, tmp_path, capsys):
    assert export_command("lenet-1", root, Console()) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [
        ["series", "step", "time", "value"],
        ["loss", "1", "1700000001.0", "1.0"],
        ["loss", "2", "1700000002.0", "0.5"],
        ["'=odd", "2", "1700000002.5", "nan"],
    ]
    out = tmp_path / "points.csv"
    export_command("lenet-1", root, Console(), out=str(out))
    assert rows == list(csv.reader(io.StringIO(out.read_text())))


def test_json_export_is_strict_and_whole(root, capsys):
    export_command("lenet-1", root, Console(), form="json")
    content = json.loads(
        capsys.readouterr().out, parse_constant=lambda _: pytest.fail("not strict JSON")
    )
    assert content == {
        "run": "flowers/lenet-1",
        "series": {
            "loss": {
                "steps": [1, 2],
                "times": [1_700_000_001.0, 1_700_000_002.0],
                "values": [1.0, 0.5],
            },
            "=odd": {"steps": [2], "times": [1_700_000_002.5], "values": ["nan"]},
        },
    }


def test_unknown_format_and_run_are_refused(root):
    with pytest.raises(ConfigError, match="no such format"):
        export_command("lenet-1", root, Console(), form="xml")
    with pytest.raises(RunError) as caught:
        show_command("lenet-2", root, Console())
    assert caught.value.hint == "did you mean 'lenet-1' or 'resnet-1'?"


def test_show_of_very_many_series_stays_short(tmp_path, capsys):
    with create_run(tmp_path, "many", name="names") as writer:
        for number in range(2500):
            writer.metrics.add(f"name {number}\x1b[31m", 1, float(number))
    show_command("names", tmp_path, Console())
    text = capsys.readouterr().out
    assert "... and 2,300 series more" in text
    assert "\x1b" not in text
    show_command("names", tmp_path, Console(json=True))
    assert 2500 == len(json.loads(capsys.readouterr().out)["series"])
