"""`discern bench infer`, and what `discern models` then knows."""

import json

import pytest
from discern_process import discern, make_images


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISCERN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.feature("MX-73")
def test_speed_is_measured_for_every_batch_and_precision_and_listed_afterwards(cache):
    ended = discern(
        "bench", "infer", "fast_net", "--img-size", "16", "--batch-size", "1,8",
        "--precision", "fp32,bf16", "--threads", "1", "--device", "", "--json",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    rows = ended.object["results"]
    assert [(1, "fp32"), (8, "fp32"), (1, "bf16"), (8, "bf16")] == [
        (row["batch_size"], row["precision"]) for row in rows
    ]
    for row in rows:
        assert ("cpu", 1, [16, 16]) == (row["device"], row["threads"], row["image_size"])
        assert row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["batch_size"] / (row["p50_ms"] / 1e3) == pytest.approx(row["images_per_s"])
        assert row["peak_mb"] > 50  # a process that has loaded torch
    listed = discern("models", "list", "fast_net", "--json").object["models"][0]
    assert max(row["images_per_s"] for row in rows) == listed["speed"]["images_per_s"]
    shown = discern("models", "show", "fast_net", "--json").object
    assert 4 == len(shown["speeds"])
    again = discern("bench", "infer", "fast_net", "--img-size", "16", "-b", "1", "--threads", "1")
    assert 0 == again.code
    kept = json.loads((cache / "models/speeds.json").read_text())
    assert 4 == len(kept["speeds"])


def test_a_list_shows_sizes_costs_and_published_scores(cache):
    ended = discern("models", "list", "resnet18", "--json")
    found = {line["name"]: line for line in ended.object["models"]}
    assert (11_689_512, 0.73158) == (found["resnet18"]["parameters"], found["resnet18"]["top1"])
    assert 1.81 == round(found["resnet18"]["gmacs"], 2)
    text = discern("models", "list", "resnet18").stdout
    assert all(word in text for word in ("GMACs", "11.69", "0.7316"))


def test_what_cannot_be_measured_is_refused(cache):
    for flags, where in (
        (("--batch-size", "0"), "--batch-size"),
        (("--precision", "fp8"), "--precision"),
        (("--device", "0,7"), "--device"),
        (("--threads", "0"), "--threads"),
    ):
        ended = discern("bench", "infer", "mlp", "--json", *flags)
        assert (2, where) == (ended.code, ended.error["where"])


def test_fewer_images_than_a_batch_are_measured_beside_a_loader_that_drops_the_rest(
    cache, tmp_path
):
    make_images(tmp_path / "pets", ("ant", "bee"), each=6)
    ended = discern(
        "bench", "io", tmp_path / "pets", "--images", "8", "--rounds", "1", "--workers", "0,1",
        "--decoders", "mixed", "--peers", "timm", "--img-size", "16", "--device", "cpu", "--json",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    timm = [row for row in ended.object["results"] if row["decoder"] == "timm"]
    assert [8, 8] == [row["images"] for row in timm]


def test_training_steps_are_measured_for_a_network_named_like_that_of_infer():
    ended = discern(
        "bench", "train", "fast_net", "--img-size", "16", "--batch-size", "4", "--forms", "plain",
        "--steps", "2", "--rounds", "1", "--threads", "1", "--num-classes", "3", "--json",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    (row,) = ended.object["results"]
    assert 0 < row["images_per_s"]
