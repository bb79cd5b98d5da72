"""The settings file of a project: defaults, merging upwards, and what is refused."""

from __future__ import annotations

import pytest

from discern.base.errors import ConfigError
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
