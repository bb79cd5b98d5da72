"""The settings file of a project: defaults, merging upwards, and what is refused."""

from __future__ import annotations

import pytest

from discern.base.errors import ConfigError
from discern.lab import experiment, tracker
from discern.lab.project_file import find_project


@pytest.mark.feature("LB-44")
def test_defaults_without_a_file(tmp_path):
    project = find_project(tmp_path)
    values = dict(project.values)
    assert (False, "data", 0, True, []) == tuple(
        values[key]
        for key in (
            "check_repo_dirty", "data_path", "web_api_frequency", "web_api_open_browser",
            "indicators",
        )
    )  # fmt: skip
    assert tmp_path / "data" == project.data_path
    assert () == project.files


@pytest.mark.feature("LB-44")
def test_files_of_nested_folders_merge(tmp_path, monkeypatch):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / ".labml.yaml").write_text(
        "check_repo_dirty: true\nexperiments_path: kept\nindicators: [{name: one}]\n"
    )
    (tmp_path / "a" / ".discern.yaml").write_text("data_path: images\nindicators: [{name: two}]\n")
    project = find_project(inner)
    assert project.check_repo_dirty
    assert tmp_path / "a" / "images" == project.data_path
    assert ["one", "two"] == [entry["name"] for entry in project.values["indicators"]]
    monkeypatch.delenv("DISCERN_RUNS")
    assert tmp_path / "a" / "kept" == project.runs_root
    (inner / ".lab.yaml").write_text("path: ..\ncheck_repo_dirty: false\n")
    assert not find_project(inner).check_repo_dirty
    assert tmp_path / "a" / "images" == find_project(inner).data_path


@pytest.mark.feature("LB-44")
@pytest.mark.parametrize(
    ("text", "what"),
    [("data_paht: x", "unknown key 'data_paht'"), ("check_repo_dirty: 3", "another type")],
)
def test_unknown_key_or_type_is_an_error(tmp_path, text, what):
    (tmp_path / ".discern.yaml").write_text(f"{text}\n")
    with pytest.raises(ConfigError, match=what) as caught:
        find_project(tmp_path)
    assert str(tmp_path / ".discern.yaml") == caught.value.where


@pytest.mark.feature("LB-44")
def test_indicators_of_the_file_are_declared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".labml.yaml").write_text(
        "indicators:\n"
        "  - {class_name: Queue, name: '*.loss', queue_size: 2, is_print: true}\n"
        "  - {class_name: IndexedScalar, name: each}\n"
        "analytics_path: notes\n"
    )
    tracker.reset()
    experiment.create(name="own")
    with experiment.start():
        for step in range(4):
            tracker.save(step, {"train.loss": float(step)})
        run = experiment.get_run()
    assert 2.5 == run.read_series("train.loss.mean").values[-1]
    err = capsys.readouterr().err
    assert ".labml.yaml: analytics_path: runs are read from Python" in err
    assert "web_api" not in err
    tracker.reset()


@pytest.mark.parametrize(
    "entry", ["{class_name: Quewe, name: a}", "{name: a, queue_size: x}", "{is_print: true}", "3"]
)
def test_indicator_that_is_none_is_an_error(tmp_path, entry):
    (tmp_path / ".discern.yaml").write_text(f"indicators: [{entry}]\n")
    with pytest.raises(ConfigError, match="no indicator"):
        _ = find_project(tmp_path).indicators


@pytest.mark.feature("LB-44")
def test_server_of_the_file_is_a_writer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="needs the address of a server"):
        experiment.create(name="own", writers={"web_api"})
    (tmp_path / ".labml.yaml").write_text("web_api: http://h/track\nweb_api_frequency: 5\n")
    made = experiment.create(name="own", writers={"web_api", "file", "screen"})
    assert ("native", "http://h/track#every_s=5", "jsonl") == made.plan.writers
    experiment.end()
