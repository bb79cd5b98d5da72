"""Adapters for other libraries' loops, driven the way these drive them."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import pytest

from discern.lab.logger_adapters import KerasCallback, LightningLogger, log_function
from discern.track.run import list_runs


@pytest.mark.feature("LB-51")
def test_lightning_style_logger_makes_a_finished_run(tmp_path):
    logger = LightningLogger("pl", "first", root=tmp_path)
    logger.log_hyperparams(Namespace(lr=0.1, layers=[1, 2], odd=object))
    logger.log_metrics({"train/loss": 0.5, "note": "text"}, step=3)
    logger.log_metrics({"train/loss": np.float32(0.25)}, 4)
    logger.save()
    assert ("pl", "first") == (logger.name, logger.version)
    assert str(tmp_path / "pl" / "first") == logger.log_dir
    logger.finalize("success")
    (run,) = list_runs(tmp_path)
    assert "finished" == run.status
    found = run.read_series("train/loss")
    assert ([3, 4], [0.5, 0.25]) == (found.steps.tolist(), found.values.tolist())
    assert (0.1, [1, 2]) == (run.record["hparams"]["lr"], run.record["hparams"]["layers"])
    assert "left out: note" in (run.path / "log.txt").read_text()


@pytest.mark.feature("LB-51")
def test_keras_style_callback_stores_epochs_and_batches(tmp_path):
    callback = KerasCallback("keras", root=tmp_path, every_batches=2)
    callback.set_params({"epochs": 2, "steps": 3})
    callback.set_model(object())
    callback.on_train_begin({})
    for epoch in range(2):
        callback.on_epoch_begin(epoch)
        for batch in range(3):
            callback.on_train_batch_begin(batch)
            callback.on_train_batch_end(batch, {"loss": 10.0 * epoch + batch})
        callback.on_epoch_end(epoch, {"loss": float(epoch), "val_accuracy": 0.5})
    callback.on_train_end()
    (run,) = list_runs(tmp_path)
    assert "finished" == run.status
    assert [3, 6] == run.read_series("loss").steps.tolist()
    assert [1.0, 2.0] == run.read_series("epoch").values.tolist()
    batches = run.read_series("batch/loss")
    assert ([2, 4, 6], [1.0, 10.0, 12.0]) == (batches.steps.tolist(), batches.values.tolist())
    assert {"epochs": 2, "steps": 3} == run.record["hparams"]


def test_keras_style_loop_without_batches_counts_epochs(tmp_path):
    callback = KerasCallback("keras", root=tmp_path)
    for epoch in range(2):
        callback.on_epoch_end(epoch, {"loss": float(epoch)})
    callback.on_train_end()
    (run,) = list_runs(tmp_path)
    assert [1, 2] == run.read_series("loss").steps.tolist()


@pytest.mark.feature("LB-51")
def test_plain_functions(tmp_path):
    log, finish = log_function("plain", "one", root=tmp_path)
    log(1, loss=0.5)
    log(2, {"loss": 0.25}, accuracy=1)
    finish("failed", "gave up")
    (run,) = list_runs(tmp_path)
    assert ("failed", "gave up") == (run.status, run.record["attempts"][-1]["reason"])
    assert [0.5, 0.25] == run.read_series("loss").values.tolist()


def test_failed_lightning_run_is_failed(tmp_path):
    logger = LightningLogger(root=tmp_path)
    logger.log_metrics({"a": 1.0})
    logger.finalize("failed")
    assert ["failed"] == [run.status for run in list_runs(tmp_path)]
