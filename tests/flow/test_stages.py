"""Stages as people write them: lengths, starting points, predictions, going back, smoke runs."""

import json

import numpy as np
import pytest
from discern_process import discern

from discern.track.metrics_read import read_all
from discern.training.checkpoints import read_checkpoint

COMMON = ("--model", "mlp", "--device", "cpu", "--precision", "fp32", "--threads", "1")
STAGES = """
defaults: {batch_size: 64, optimizer: adamw, schedule: constant}
stages:
  head: {trainable: head, steps: 25, lr: 1e-2, keep_top: 1}
  skipped: null
  all: {start_from: best, epochs: 1, lr: 1e-3, monitor: macro_f1}
  infer: {kind: predict, start_from: "stage:head"}
"""


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """(folder of runs, folder of the run, printed lines) of a training in three stages."""
    folder = tmp_path_factory.mktemp("staged")
    (folder / "stages.yaml").write_text(STAGES)
    ended = discern("train", "digits", *COMMON, "-c", folder / "stages.yaml", "--name", "one",
                    "--runs", folder / "runs")  # fmt: skip
    assert 0 == ended.code, ended.stderr
    return folder / "runs", folder / "runs" / "digits" / "one", ended.stdout


@pytest.mark.feature("CA-26")
def test_head_alone_then_all_from_its_best_epoch(staged):
    _, run, text = staged
    assert "stage head: 25 steps in epochs of 20" in text
    assert [20, 25, 45] == read_all(run)["val/accuracy"].steps.tolist()
    record = json.loads((run / "checkpoints" / "metrics.json").read_text())
    assert ["head", "head", "all"] == [entry["stage"] for entry in record["epochs"]]
    assert "macro_f1" == record["monitor"]
    assert (run / "checkpoints" / "step-45").is_dir()


@pytest.mark.feature("CA-48")
def test_predictions_are_those_of_the_named_weights_in_table_order(staged):
    _, run, _ = staged
    folder = run / "predictions" / "infer"
    record = json.loads((folder / "record.json").read_text())
    assert "head" == record["weights"]["stage"]
    for split, count in (("train", 1259), ("val", 269), ("test", 269)):
        table = (folder / f"{split}.csv").read_text().splitlines()
        assert count + 1 == len(table)
        assert count == len(np.load(folder / f"{split}.embeddings.npy"))
    logits = np.load(folder / "val.logits.npy")
    features = np.load(folder / "val.features.npy")
    kept = read_checkpoint(run / "checkpoints" / f"step-{record['weights']['step']}")
    weight, bias = (kept.tensors["model"][f"network.head.{n}"].numpy() for n in ("weight", "bias"))
    assert np.allclose(features @ weight.T + bias, logits, atol=1e-5)


@pytest.mark.feature("LB-21")
def test_going_back_makes_a_linked_run_and_leaves_the_old_one(staged):
    runs, run, _ = staged
    before = (run / "run.json").read_bytes()
    ended = discern("train", "--resume", "one@step:30", "--runs", runs)
    assert 0 == ended.code, ended.stderr
    assert "step 30 was not kept: the next lower one is step 25" in ended.stderr
    new = runs / "digits" / "one-from-25-1"
    record = json.loads((new / "run.json").read_text())
    assert ("digits/one", 25) == (record["parent"]["run"], record["parent"]["step"])
    assert before == (run / "run.json").read_bytes()
    # It goes on as the old one did: the same weights and the same curves.
    assert json.loads(before)["weights_hash"] == record["weights_hash"]
    for name, series in read_all(run).items():
        if not name.startswith("time/"):
            assert series.values.tolist() == read_all(new)[name].values.tolist()


@pytest.mark.feature("CA-20")
def test_check_runs_two_epochs_of_three_batches_of_every_stage(staged, tmp_path):
    _, run, _ = staged
    ended = discern("train", "digits", *COMMON, "-c", run / "config.yaml", "--check", "--runs",
                    tmp_path)  # fmt: skip
    assert 0 == ended.code, ended.stderr
    made = tmp_path / "digits" / "one-check-1"
    assert json.loads((made / "run.json").read_text())["check"] is True
    assert [3, 6, 9, 12] == read_all(made)["val/accuracy"].steps.tolist()
    assert (made / "predictions" / "infer" / "record.json").is_file()


def test_overfitting_scores_the_images_that_it_trains_on(tmp_path):
    ended = discern("train", "digits", *COMMON, "--overfit-batches", "1", "--batch-size", "8",
                    "--epochs", "40", "--augment", "none", "--json", "--runs",
                    tmp_path)  # fmt: skip
    assert 0 == ended.code, ended.stderr
    assert ("train", 8, 1.0) == tuple(
        ended.object["metrics"][key] for key in ("split", "count", "accuracy")
    )


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("{start_from: best}", "no stage trains before this one"),
        ("{start_from: 'stage:other'}", "does not train before"),
        ("{start_from: missing.safetensors}", "no such weights file"),
        ("{kind: predict}", "at least one stage that trains"),
        ("{monitor: macrof1}", "unknown metric"),
    ],
)
def test_stages_that_cannot_be_are_refused_before_a_run_is_made(stage, told, tmp_path):
    (tmp_path / "s.yaml").write_text(f"stages: {{one: {stage}}}")
    ended = discern("train", "digits", *COMMON, "-c", tmp_path / "s.yaml", "--runs",
                    tmp_path / "runs")  # fmt: skip
    assert 2 == ended.code
    assert told in ended.stderr
    assert not list(tmp_path.glob("runs/*/*"))


@pytest.mark.parametrize(
    ("words", "updates"),
    [(("--steps", "4"), 4), (("--epochs", "1", "--sched", "one_cycle"), 20)],
)
def test_a_recipes_warm_up_gives_way_to_what_is_asked_for(words, updates, tmp_path):
    ended = discern("train", "digits", *COMMON, *words, "--runs", tmp_path, "--name", "few")
    assert 0 == ended.code, ended.stderr
    assert updates == read_all(tmp_path / "digits" / "few")["train/loss"].steps[-1]
