import json
from pathlib import Path

import pytest
from discern_process import QUICK, discern, make_images, write_table

from discern.config.yaml_text import read_document


def test_a_runs_config_tells_who_set_what(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("compute: {threads: 1}\n")
    runs = ["--runs", tmp_path / "runs"]
    train = ["train", "digits", *QUICK, "--lr", "0.01", "--name", "x", "--config", file, *runs]
    ended = discern(*train, "--json")
    assert 0 == ended.code, ended.stderr

    def origin(key):
        told = discern("config", "explain", key, "--run", "digits/x", *runs, "--json").object
        return told["values"][0]["value"], told["values"][0]["origin"]

    assert (0.01, "--lr") == origin("stages.train.lr")
    assert (1, f"{file}:1") == origin("compute.threads")
    assert ("mlp", "--model") == origin("model.name")
    assert 64 == origin("batch_size")[0]
    assert "recipe classic" == origin("batch_size")[1]
    assert (1, "chosen for this run") == origin("data.channels")


def test_explain_takes_files_flags_and_pairs_in_their_order(tmp_path):
    (tmp_path / "a.yaml").write_text("stages: {one: {lr: 1}, two: {lr: 2}}\n")
    (tmp_path / "b.yaml").write_text("stages: {two: {lr: 3}}\n")
    command = ["config", "explain", "lr", "-c", "a.yaml", "-c", "b.yaml", "--json"]
    told = discern(*command, "--set", "stages.one.lr=4", cwd=tmp_path).object["values"]
    expected = [("stages.one.lr", 4, "--set stages.one.lr"), ("stages.two.lr", 3, "b.yaml:1")]
    assert expected == [(v["key"], v["value"], v["origin"]) for v in told]
    told = discern(*command, "--lr", "5", cwd=tmp_path).object["values"]
    assert [5, 5] == [v["value"] for v in told]


def test_bad_data_in_a_file_is_an_error_not_a_crash(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data: 3\n")
    error = discern("train", "--config", file, "--json").error
    assert ("config", "train needs DATA") == (error["kind"], error["what"])


TEMPLATE = """command: python2 trainer.py
params: {aug_list: [none], batch_size: [64], memory_saving_method: [none], network: [lenet],
         num_epochs: [1], small_chunk: [2]}
"""


@pytest.mark.feature("ML-16")
def test_an_imported_template_trains(tmp_path):
    (tmp_path / "mlsteam.yml").write_text(TEMPLATE)
    told = discern("train", "digits", "--config", "mlsteam.yml", "--json", cwd=tmp_path).error
    assert "this is a config of MLSteam" == told["what"]
    command = told["hint"].split()[1:]
    assert ["config", "import", "mlsteam.yml", "--out", "config.yaml"] == command
    ended = discern(*command, cwd=tmp_path)
    assert 0 == ended.code
    assert "params/small_chunk = 2  ->  stages.*.grad_accum_steps = 2" in ended.stdout
    assert "there is such a file" in discern(*command, cwd=tmp_path).stderr
    ended = discern("train", "digits", "--config", "config.yaml", "--json", cwd=tmp_path)
    assert 0 == ended.code, ended.stderr
    config = read_document(Path(ended.object["path"]) / "config.yaml").value
    stage = config["stages"]["train"]
    assert ("lenet", 1, 128, 2) == (
        config["model"]["name"], stage["epochs"], stage["batch_size"], stage["grad_accum_steps"],
    )  # fmt: skip


def test_several_configs_get_a_number_each(tmp_path):
    (tmp_path / "m.yml").write_text(TEMPLATE.replace("[lenet]", "[lenet, mlp]"))
    command = ["config", "import", "m.yml", "--json"]
    assert "this makes 2 configs" == discern(*command, cwd=tmp_path).error["what"]
    told = discern(*command, "--out", "x/c.yaml", cwd=tmp_path).object
    assert ["x/c-1.yaml", "x/c-2.yaml"] == told["files"]
    assert {"name": "mlp"} == read_document(tmp_path / "x" / "c-2.yaml").value["model"]


def test_refusals_leave_no_file_and_name_the_way_out(tmp_path):
    (tmp_path / "c.yml").write_text("model_params: {model: lenet, typo: {a: 1}}\nwhat: 1\n")
    command = ["config", "import", "c.yml", "--out", "c.yaml"]
    error = discern(*command, "--json", cwd=tmp_path).error
    assert "the config asks for what cannot be honored here" == error["what"]
    assert "--skip what" in error["hint"]
    assert not (tmp_path / "c.yaml").exists()
    assert 0 == discern(*command, "--skip", "what", cwd=tmp_path).code
    changed = discern(
        *command, "--skip", "what", "--model_params/model=mlp:str", "--force", cwd=tmp_path
    )
    assert (0, "name: mlp  #") == (
        changed.code,
        (tmp_path / "c.yaml").read_text().split("model:\n  ")[1][:12],
    )
    assert "no such flag: --typo" in discern(*command, "--typo", cwd=tmp_path).stderr


@pytest.mark.feature("CA-25")
def test_folds_by_config_only(tmp_path):
    make_images(tmp_path / "images", each=8)
    rows = [
        {"path": f"images/{name}/{n:02d}.jpg", "label": name, "fold": n % 4}
        for name in ("ant", "bee")
        for n in range(8)
    ]
    table = write_table(tmp_path / "table.csv", rows)
    command = ["train", table, *QUICK, "--json", "--runs", tmp_path / "runs"]
    folds = ["--set", "data.train_folds=[0, 1]", "--set", "data.val_folds=[2]"]
    ended = discern(*command, *folds, "--set", "data.test_folds=[3]")
    assert 0 == ended.code, ended.stderr
    record = json.loads((Path(ended.object["path"]) / "run.json").read_text())
    counts = {split: sum(n.values()) for split, n in record["split"]["counts"].items()}
    assert {"train": 8, "val": 4, "test": 4} == counts
    error = discern(*command, "--set", "data.train_folds=[9]").error
    assert ("no such fold", "0, 1, 2, 3") == (error["what"], error["expected"])
