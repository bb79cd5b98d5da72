from __future__ import annotations

import json
import math

import pytest

from discern.base.errors import ConfigError, RunError
from discern.track.run import create_run, open_run
from discern.track.run_index import read_index
from discern.track.run_notes import Notes, change_tags, write_notes
from discern.track.run_query import RunQuery, getter, parse_condition, select_rows
from discern.track.run_views import VIEWS_FILE, Column, View, read_views
from discern.track.series_summary import better_way

RUNS = (
    # project, name, accuracy, rate, losses
    ("digits", "slow", 0.5, 1e-3, (2.0, 1.5)),
    ("digits", "quick", 0.75, 1e-1, (1.0, 0.25, math.nan)),
    ("flowers", "slow", math.nan, 5e-3, (0.5,)),
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for project, name, accuracy, rate, losses in RUNS:
        config = {"stages": {"train": {"lr": rate}}, "model": {"name": "lenet"}, "seed": None}
        with create_run(root, project, name=name, record={"config": config}) as writer:
            writer.update(metrics={"accuracy": accuracy, "split": "test"})
            for step, loss in enumerate(losses):
                writer.metrics.add("val/loss", step, loss)
                writer.metrics.add("a<b", step, 1.0)
    write_notes(root / "digits" / "slow", Notes("baseline", "the first one", ("keep", "paper")))
    create_run(root, "digits", name="broken").finish("failed", "x", RunError("x"))
    return read_index(root)


def chosen(table, *where, **words):
    query = RunQuery(where=[parse_condition(text) for text in where], **words)
    return [row.id for row in query.choose(table)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["accuracy>0.6"], {"digits/quick"}),
        (["accuracy = 0.5"], {"digits/slow"}),
        (["accuracy=nan"], {"flowers/slow"}),
        (["accuracy!=0.5"], {"digits/quick", "flowers/slow", "digits/broken"}),
        (["stages.train.lr<0.01"], {"digits/slow", "flowers/slow"}),
        (["config.stages.train.lr<=1e-3"], {"digits/slow"}),
        (["stages.train.lr<0.01", "accuracy>0.4"], {"digits/slow"}),
        (["status=failed"], {"digits/broken"}),
        (["model.name~LEN", "project=flowers"], {"flowers/slow"}),
        (["tags=paper"], {"digits/slow"}),
        (["val/loss<=1.5"], {"digits/slow", "flowers/slow"}),
        (["best(val/loss)<0.3"], {"digits/quick"}),
        (["highest(val/loss)>=2"], {"digits/slow"}),
        (['"a<b">=1'], {"digits/slow", "digits/quick", "flowers/slow"}),
        (["created>=2020-01-01", "name='quick'"], {"digits/quick"}),
        (["created<2020"], set()),
        (["metrics.accuracy = null"], {"digits/broken"}),
    ],
)
def test_conditions_choose_runs(table, where, expected):
    assert expected == set(chosen(table, *where))


@pytest.mark.parametrize("text", ["", "accuracy", "accuracy>", ">0.5", "lr<fast", "lr<true"])
def test_texts_that_are_no_conditions_are_refused(text):
    with pytest.raises(ConfigError) as told:
        parse_condition(text)
    assert "--where" == told.value.where
    assert text == told.value.got


def test_key_that_no_run_has_names_the_nearest(table):
    with pytest.raises(ConfigError, match="no run has 'acuracy'") as told:
        chosen(table, "acuracy>0.5")
    assert "'accuracy'" in told.value.hint
    with pytest.raises(ConfigError, match="no run has"):
        chosen(table, "best(val/los)<1")


def test_best_of_a_series_whose_better_way_is_unknown_is_refused(table):
    with pytest.raises(ConfigError, match="which way 'a<b' is better"):
        getter(table, "best(a<b)")


def test_sorting_puts_runs_without_a_number_last_both_ways(table):
    assert ["digits/slow", "digits/quick"] == chosen(table, sort=["accuracy"])[:2]
    assert ["digits/quick", "digits/slow"] == chosen(table, sort=["-accuracy"])[:2]
    last = {"flowers/slow", "digits/broken"}
    assert last == set(chosen(table, sort=["accuracy"])[2:])
    assert last == set(chosen(table, sort=["-accuracy"])[2:])
    assert ["digits/slow"] == chosen(table, sort=["stages.train.lr"], limit=1)
    assert ["digits/broken", "digits/quick"] == chosen(table, sort=["project", "name"])[:2]


def test_text_tags_status_and_project_choose(table):
    assert ["digits/slow"] == chosen(table, text="FIRST digits")
    assert ["digits/slow"] == chosen(table, tags=["keep", "paper"])
    assert [] == chosen(table, tags=["keep", "none"])
    assert {"digits/broken"} == set(chosen(table, statuses=["failed", "lost"]))
    assert ["flowers/slow"] == chosen(table, project="flowers")


def test_words_mean_runs(table):
    def ids(*words):
        return [row.id for row in select_rows(table, words)]

    assert ["digits/quick"] == ids("quick")
    assert ["digits/quick"] == ids("digits/quick", "quick")
    assert {"digits/quick", "digits/slow", "digits/broken"} == set(ids("digits/*"))
    assert ["flowers/slow"] == ids(str(table.root / "flowers" / "slow"))
    with pytest.raises(ConfigError, match="2 runs have the name 'slow'"):
        ids("slow")
    with pytest.raises(ConfigError) as told:
        ids("quik")
    assert "'quick'" in told.value.hint


def test_beginning_of_one_uuid_means_its_run(tmp_path):
    first, second = "5f0c1a2e" + "0" * 24, "5f0c1a2f" + "0" * 24
    dashed = "77AB0000-1111-2222-3333-444455556666"
    named = [("own", first), ("own", second), ("other", dashed), ("own", "net-12"), ("own", "cafe")]
    for project, name in named:
        create_run(tmp_path, project, name=name).finish("finished", "done")
    table = read_index(tmp_path)
    opened = (
        lambda word: open_run(word, tmp_path).id,
        lambda word: select_rows(table, [word])[0].id,
    )
    for run_of in opened:
        assert f"own/{first}" == run_of("5f0c1a2e") == run_of("own/5F0C1A2E0") == run_of(first)
        assert f"other/{dashed}" == run_of("77ab") == run_of("77AB0000-11")
        for several in ("5f0c", "own/5f0c1a2"):
            with pytest.raises(ConfigError, match="2 runs have a UUID that begins") as told:
                run_of(several)
            assert f"own/{first} or own/{second}" == told.value.expected
        # Too few characters, another project, and the beginnings of names that are no UUID.
        for none in ("77a", "own/77ab", "net-1", "caf"):
            with pytest.raises((ConfigError, RunError), match=f"no run '{none}'"):
                run_of(none)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("val/loss", "min"),
        ("train/accuracy", "max"),
        ("val/balancedAccuracy", "max"),
        ("top5_error", "min"),
        ("valid/accuracy01", "max"),
        ("time/images_per_s", None),
        ("lossless", None),
    ],
)
def test_way_that_is_better_is_told_by_the_name(name, way):
    assert way == better_way(name)


def test_tags_are_kept_in_order_and_once():
    assert ("a", "c", "d") == change_tags(["a", "b", "c"], ["d", "a"], ["b", "none"])
    with pytest.raises(ConfigError):
        change_tags([], ["\x1b[31m"], [])


def test_views_survive_and_wrong_ones_are_told(tmp_path):
    view = View(
        columns=(Column("id"), Column.parse("accuracy=acc:8"), Column("loss", visible=False)),
        status="finished",
        where=("accuracy>0.5",),
        sort=("-accuracy",),
        limit=3,
    )
    views = read_views(tmp_path)
    views.views["mine"] = view
    views.save()
    assert view == read_views(tmp_path).get("mine")
    stored = json.loads((tmp_path / VIEWS_FILE).read_bytes())["views"]["mine"]
    assert {"key": "accuracy", "title": "acc", "width": 8, "visible": True} == stored["columns"][1]
    with pytest.raises(ConfigError, match="there is no view 'mein'"):
        read_views(tmp_path).get("mein")
    for wrong in (
        {"sort": "accuracy"},
        {"order": ["accuracy"]},
        {"columns": [{"name": "accuracy"}]},
        {"columns": [{"key": "accuracy", "width": "8"}]},
        {"limit": True},
        [],
    ):
        (tmp_path / VIEWS_FILE).write_text(json.dumps({"version": 1, "views": {"x": wrong}}))
        with pytest.raises(ConfigError):
            read_views(tmp_path)
    for text in ("", "[]", '{"version": 2}', '{"version": 1, "views": 3}'):
        (tmp_path / VIEWS_FILE).write_text(text)
        with pytest.raises(ConfigError):
            read_views(tmp_path)
