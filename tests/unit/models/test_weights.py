"""Reading safetensors into networks: strict, reported, never silent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from discern.base.errors import ConfigError, ModelError
from discern.models.nets.fast_net import fast_net
from discern.models.weights import (
    WeightsReport,
    fit_weights,
    is_offline,
    no_weights,
    read_weights,
    restart_skipped,
)


def load_weights_file(
    network: torch.nn.Module,
    path: Path,
    *,
    head_names: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
) -> WeightsReport:
    tensors = read_weights(path)
    return fit_weights(network, tensors, source=str(path), head_names=head_names, skip=skip)


def saved(path: Path, *, classes: int = 5, channels: int = 3) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(1)
    network = fast_net(classes, channels, (16, 16), width=4)
    save_file(network.state_dict(), path)
    return path, network


def test_every_tensor_is_loaded(tmp_path: Path) -> None:
    path, source = saved(tmp_path / "w.safetensors")
    network = fast_net(5, 3, (16, 16), width=4)
    report = load_weights_file(network, path, head_names=("head",))
    assert (len(source.state_dict()), (), ()) == (report.loaded, report.missing, report.unexpected)
    for name, value in source.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    assert not report.from_scratch
    assert str(path) == report.record()["source"]


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({"a": torch.ones(2, dtype=torch.float16), "n": torch.tensor(3)}, path)
    tensors = read_weights(path)
    assert (torch.float32, torch.int64) == (tensors["a"].dtype, tensors["n"].dtype)


def test_names_with_the_wrappers_prefix_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "wrapped.safetensors"
    save_file({"network.a": torch.ones(2), "network.b": torch.ones(1)}, path)
    assert {"a", "b"} == set(read_weights(path))


def test_a_head_of_another_class_count_is_left_and_reported(tmp_path: Path) -> None:
    path, source = saved(tmp_path / "w.safetensors", classes=9)
    network = fast_net(5, 3, (16, 16), width=4)
    fresh = network.head.weight.detach().clone()
    report = load_weights_file(network, path, head_names=("head",))
    assert {"head.weight", "head.bias"} == set(report.missing) == set(report.unexpected)
    assert torch.equal(fresh, network.head.weight)
    assert torch.equal(source.stem.conv.weight, network.stem.conv.weight)


def test_color_kernels_are_summed_for_grey_images(tmp_path: Path) -> None:
    path, source = saved(tmp_path / "w.safetensors")
    network = fast_net(5, 1, (16, 16), width=4)
    report = load_weights_file(network, path, head_names=("head",))
    assert ("stem.conv.weight",) == report.reshaped
    grey = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(
        source.eval()(grey.expand(-1, 3, -1, -1)), network.eval()(grey), atol=1e-5, rtol=1e-5
    )


def test_any_other_difference_is_an_error_that_lists_it(tmp_path: Path) -> None:
    path, _ = saved(tmp_path / "w.safetensors")
    network = fast_net(5, 3, (16, 16), width=8)
    before = network.stem.conv.weight.detach().clone()
    with pytest.raises(ModelError) as caught:
        load_weights_file(network, path, head_names=("head",))
    assert "'stem.conv.weight' is (4, 3, 3, 3), not (8, 3, 3, 3)" in str(caught.value)
    assert "more" in str(caught.value)
    assert torch.equal(before, network.stem.conv.weight)


def test_missing_and_unknown_tensors_are_errors(tmp_path: Path) -> None:
    path, source = saved(tmp_path / "w.safetensors")
    tensors = dict(source.state_dict())
    tensors["extra"] = tensors.pop("stem.norm.bias")
    save_file(tensors, path)
    with pytest.raises(ModelError) as caught:
        load_weights_file(fast_net(5, 3, (16, 16), width=4), path)
    assert "'stem.norm.bias' is missing; 'extra' is unknown to the network" in str(caught.value)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path, _ = saved(tmp_path / "w.safetensors")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match="damaged") as caught:
        read_weights(path)
    assert str(path) in str(caught.value)


def test_a_pickle_is_refused_and_a_missing_file_named(tmp_path: Path) -> None:
    pickled = tmp_path / "w.pth"
    torch.save({"a": torch.ones(1)}, pickled)
    with pytest.raises(ModelError) as caught:
        read_weights(pickled)
    assert "never opened" in str(caught.value)
    with pytest.raises(ModelError, match="no such weights file"):
        read_weights(tmp_path / "none.safetensors")


def test_weights_that_cannot_be_had_come_with_three_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = str(no_weights("resnet18", "timm/resnet18.a1_in1k", "no route"))
    for part in (
        "HF_HUB_OFFLINE",
        "--weights FILE.safetensors",
        "--weights none",
        "--model fast_net",
        "hf download timm/resnet18.a1_in1k",
    ):
        assert part in text
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not is_offline()


def test_a_new_head_starts_at_zero(shared_data):
    from discern.models.catalogue import ModelRequest, build_model

    file = shared_data / "weights" / "mobilenetv2_100.safetensors"
    built = build_model(ModelRequest(name="mobilenetv2_100", num_classes=12, weights=str(file)))
    head = built.model.network.classifier
    assert not head.weight.any()
    assert not head.bias.any()
    assert built.model.network.conv_head.weight.any()


@pytest.mark.feature("LA-23")
def test_names_with_a_skipped_part_stay_at_their_start_and_are_reported(tmp_path: Path) -> None:
    path, source = saved(tmp_path / "w.safetensors", classes=9)
    network = fast_net(5, 3, (16, 16), width=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = load_weights_file(network, path, skip=("head", "stages.2.refine.conv"))
    expected = {"head.weight", "head.bias", "stages.2.refine.conv.weight"}
    assert (expected, ()) == (set(report.skipped), report.missing)
    own = network.state_dict()
    assert all(torch.equal(before[name], own[name]) for name in expected)
    assert len(own) - 3 == report.loaded
    filled = source.state_dict()
    assert all(torch.equal(filled[name], own[name]) for name in own if name not in expected)


@pytest.mark.feature("LA-23")
def test_a_part_that_no_name_contains_is_an_error(tmp_path: Path) -> None:
    path, _ = saved(tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="no tensor's name contains 'hed'"):
        load_weights_file(fast_net(5, 3, (16, 16), width=4), path, skip=("hed",))


def test_published_weights_give_way_to_fresh_values_of_the_skipped() -> None:
    network, fresh = (fast_net(5, 3, (16, 16), width=4) for _ in range(2))
    loaded = WeightsReport(source="pretrained:x", loaded=len(network.state_dict()))
    report = restart_skipped(network, fresh, loaded, ("stem.conv",))
    assert (("stem.conv.weight",), loaded.loaded - 1) == (report.skipped, report.loaded)
    assert torch.equal(fresh.stem.conv.weight, network.stem.conv.weight)
