"""What a training is fed: presets that take effect, samplers, and no file read whole."""

import json
from pathlib import Path

import numpy as np
import pytest
from discern_process import discern, make_images

from discern.data.scan import DataRequest, scan_data
from discern.data.sources import open_source
from discern.track.metrics_read import read_all

COMMON = ("--model", "mlp", "--device", "cpu", "--precision", "fp32", "--threads", "1")


def config_of(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]


@pytest.mark.feature("PP-01")
def test_a_preset_is_resolved_printed_stored_and_overridden_by_its_arguments(tmp_path):
    given = ("train", "synthetic", *COMMON, "--epochs", "1", "--runs", tmp_path)
    plain = discern(*given, "--augment", "randaugment", "--name", "plain")
    assert 0 == plain.code, plain.stderr
    assert "rand augment (n 2, m 9" in plain.stdout
    assert (
        "randaugment"
        == config_of(tmp_path / "synthetic/plain")["stages"]["train"]["augment"]["name"]
    )
    changed = discern(
        *given, "--set", "stages.train.augment={name: randaugment, args: {n: 1, m: 3}}",
        "--name", "changed",
    )  # fmt: skip
    assert 0 == changed.code, changed.stderr
    assert "rand augment (n 1, m 3" in changed.stdout
    # The two trained on different pictures: what was asked for took effect.
    losses = [
        read_all(tmp_path / "synthetic" / n)["train/loss"].values for n in ("plain", "changed")
    ]
    assert (losses[0] != losses[1]).any()


def test_samplers_decide_the_length_of_an_epoch(tmp_path):
    given = ("train", "digits", *COMMON, "--epochs", "2", "--batch-size", "50", "--runs", tmp_path)
    for flags, batches in (
        (("--sampler", "20"), 4),  # 10 classes
        (("--balance-strategy", "down"), 25),  # 122 of the rarest digit, 10 classes
        (("--epoch-size", "130"), 3),
    ):
        ended = discern(*given, *flags, "--json")
        assert 0 == ended.code, ended.stderr
        steps = read_all(tmp_path / ended.object["run"])["val/accuracy"].steps
        assert [batches, 2 * batches] == steps.tolist(), flags
    refused = discern(*given, "--sampler", "weighted", "--json")
    assert (2, "the data has no weight column") == (refused.code, refused.error["what"])


@pytest.mark.feature("LA-17")
def test_the_fast_preset_leaves_out_what_costs(tmp_path):
    slow, fast = (
        discern(
            "train", "synthetic", *COMMON, "--epochs", "1", "--augment", name, "--name", name,
            "--runs", tmp_path,
        )
        for name in ("cifar", "cifar_fast")
    )  # fmt: skip
    line = {
        ended: next(x for x in ended.stdout.splitlines() if x.startswith("augment"))
        for ended in (slow, fast)
    }
    assert all(word in line[slow] for word in ("shift up to 4 pixels", "brightness", "contrast"))
    assert "shift up to 4 pixels" in line[fast]
    assert "brightness" not in line[fast]
    record = json.loads((tmp_path / "synthetic/cifar_fast/run.json").read_text())
    assert record["choices"]["normalization"]["per_image"] is True


@pytest.mark.feature("PP-15")
def test_a_large_record_file_is_mapped_not_read(tmp_path):
    """Reading one image of a 64 MB file does not take 64 MB of memory of its own."""
    make_images(tmp_path / "pets", each=8)
    packed = discern("data", "pack", tmp_path / "pets", "--to", "rec", "--out", tmp_path / "rec")
    assert 0 == packed.code, packed.stderr
    rec = next((tmp_path / "rec").glob("*.rec"))
    manifest = scan_data(DataRequest(train=str(rec), split=None)).manifest
    with open(rec, "ab") as stream:
        stream.truncate(rec.stat().st_size + (64 << 20))  # a hole: nothing on the disk
    source = open_source(manifest)
    before = _private_bytes()
    images = [source.read(row) for row in range(len(manifest))]
    assert _private_bytes() - before < 16 << 20
    assert all(image[:2] == b"\xff\xd8" for image in images)
    assert len(np.unique([len(image) for image in images])) > 1


def _private_bytes():
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) << 10


def test_loss_rates_and_metrics_are_chosen_by_flags_and_stored(tmp_path):
    ended = discern(
        "train", "digits", *COMMON, "--epochs", "1", "--loss", "focal", "--lr-base", "0.01",
        "--layer-decay", "0.5", "--metric", "macro_f1", "--metric", "mcc", "--runs", tmp_path,
        "--name", "one",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    record = json.loads((tmp_path / "digits/one/run.json").read_text(encoding="utf-8"))
    assert "focal" == record["config"]["stages"]["train"]["objective"]["name"]
    assert {"macro_f1", "mcc"} <= set(record["metrics"])
    assert f"macro_f1 {record['metrics']['macro_f1']:.4f}" in ended.stdout
    assert "rates    train: learning rate" in ended.stdout
    scored = discern(
        "eval", "digits/one", "digits", "--split", "test", "--metric", "mcc", "--json",
        "--runs", tmp_path,
    )  # fmt: skip
    assert record["metrics"]["mcc"] == scored.object["metrics"]["mcc"]
    for flags, what in (
        (("--loss", "fokal"), "unknown objective 'fokal'"),
        (("--metric", "mccc"), "unknown metric 'mccc'"),
    ):
        refused = discern("train", "digits", *COMMON, *flags, "--json", "--runs", tmp_path)
        assert (2, what) == (refused.code, refused.error["what"])


def test_changes_that_make_labels_are_shown_with_them(tmp_path):
    given = ("data", "preview", "synthetic", "--model", "mlp", "--device", "cpu", "--json")
    ended = discern(*given, "--make-labels", "rotate,blur,flare", "--out", tmp_path / "p.png")
    assert 0 == ended.code, ended.stderr
    labels = ended.object["made_labels"]
    assert ["rotate", "blur", "flare"] == list(labels)
    for name, classes in (("rotate", 8), ("blur", 8), ("flare", 2)):
        assert 8 == len(labels[name])
        assert set(labels[name]) <= set(range(classes))
    again = discern(*given, "--make-labels", "rotate,blur,flare", "--out", tmp_path / "q.png")
    assert (tmp_path / "p.png").read_bytes() == (tmp_path / "q.png").read_bytes()
    assert labels == again.object["made_labels"]
    refused = discern(*given, "--make-labels", "rotat", "--out", tmp_path / "r.png")
    assert (2, "--make-labels") == (refused.code, refused.error["where"])
    assert not (tmp_path / "r.png").exists()
