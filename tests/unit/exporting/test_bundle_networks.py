"""Bundles of many networks: same logits here and in timm, faults found, no code run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from discern.base.errors import ModelError
from discern.exporting.bundle import open_bundle, replay_golden, save_bundle
from discern.exporting.content import BundleContent, GoldenImage
from discern.exporting.forward import normalized

MakeContent = Callable[..., BundleContent]
IMAGES = np.random.default_rng(5).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def logits_of(model: torch.nn.Module, content: BundleContent) -> torch.Tensor:
    channels = content.preprocess.channels
    batch = normalized([image[:, :, :channels] for image in IMAGES], content.preprocess,
                       torch.device("cpu"))  # fmt: skip
    with torch.inference_mode():
        return model.eval()(batch).logits


def sign_again(bundle: Path) -> None:
    """Make the sums fit the files, as somebody who changes a bundle on purpose would."""
    path = bundle / "sha256.json"
    record = json.loads(path.read_text())
    for name in record["files"]:
        record["files"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(record))


def change_config(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    sign_again(bundle)


@pytest.mark.feature("MX-31")
@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("fast_net", 1),
        ("fast_net", 3),
        ("resnet18", 3),
        ("resnet18", 1),
        ("vit_tiny_patch16_224", 3),
    ],
)
def test_opened_bundle_gives_the_models_own_logits(
    tmp_path: Path, make_content: MakeContent, name: str, channels: int
) -> None:
    content = make_content(name, channels)
    wanted = logits_of(content.model, content)
    save_bundle(tmp_path / "model", content)
    bundle = open_bundle(tmp_path / "model")
    assert ("ant", "bee", "cat") == bundle.classes
    assert content.preprocess == bundle.preprocess
    torch.testing.assert_close(logits_of(bundle.model, content), wanted, rtol=0, atol=0)


def test_arguments_of_the_builder_come_back(tmp_path: Path, make_content: MakeContent) -> None:
    content = make_content("resnet18", arguments={"stem_width": 16, "stem_type": "deep"})
    wanted = logits_of(content.model, content)
    save_bundle(tmp_path / "model", content)
    bundle = open_bundle(tmp_path / "model")
    torch.testing.assert_close(logits_of(bundle.model, content), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_timm_opens_the_folder_and_gives_the_same_logits(
    tmp_path: Path, make_content: MakeContent, name: str
) -> None:
    import timm
    from timm.data import resolve_data_config

    content = make_content(name)
    save_bundle(tmp_path / "model", content)
    network = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    batch = normalized(list(IMAGES), content.preprocess, torch.device("cpu"))
    with torch.inference_mode():
        got = network(batch)
    torch.testing.assert_close(got, logits_of(content.model, content), rtol=0, atol=1e-6)
    settings = resolve_data_config({}, model=network)
    assert (3, 32, 32) == tuple(settings["input_size"])
    assert (0.45, 0.45, 0.45) == tuple(settings["mean"])
    assert 0.9 == settings["crop_pct"]


def test_weights_file_holds_names_that_other_readers_know(
    tmp_path: Path, make_content: MakeContent
) -> None:
    import timm
    from safetensors.torch import load_file

    save_bundle(tmp_path / "model", make_content("resnet18"))
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    assert timm.create_model("resnet18", num_classes=3).state_dict().keys() == tensors.keys()


@pytest.mark.feature("PP-26")
@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "golden/golden.json", "golden/00.jpg"]
)
def test_corrupt_file_is_named(tmp_path: Path, make_content: MakeContent, name: str) -> None:
    save_bundle(tmp_path / "model", make_content())
    file = tmp_path / "model" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="damaged") as caught:
        open_bundle(tmp_path / "model")
    assert str(file) == str(caught.value.where)


@pytest.mark.feature("PP-26")
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "sha256.json"])
def test_missing_file_is_named(tmp_path: Path, make_content: MakeContent, name: str) -> None:
    save_bundle(tmp_path / "model", make_content())
    (tmp_path / "model" / name).unlink()
    with pytest.raises(ModelError, match="missing") as caught:
        open_bundle(tmp_path / "model")
    assert str(tmp_path / "model" / name) == str(caught.value.where)


def test_newer_bundle_replaces_the_older(tmp_path: Path, make_content: MakeContent) -> None:
    save_bundle(tmp_path / "model", make_content(seed=0))
    newer = make_content(seed=1)
    save_bundle(tmp_path / "model", newer)
    bundle = open_bundle(tmp_path / "model")
    torch.testing.assert_close(logits_of(bundle.model, newer), logits_of(newer.model, newer))
    assert ["model"] == [entry.name for entry in tmp_path.iterdir()]


def test_saving_leaves_the_model_as_it_was(tmp_path: Path, make_content: MakeContent) -> None:
    content = make_content()
    content.model.train().half()
    save_bundle(tmp_path / "model", content)
    assert content.model.training
    assert torch.float16 == next(content.model.parameters()).dtype


@pytest.mark.feature("MX-31")
@pytest.mark.parametrize(
    "fault",
    [
        {"mean": [0.485, 0.456, 0.406]},
        {"std": [1.0, 1.0, 1.0]},
        {"crop_pct": 1.0},
        {"interpolation": "nearest"},
        {"fit": "squish"},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_golden_replay_finds_wrong_preprocessing(
    tmp_path: Path, make_content: MakeContent, fault: dict[str, Any]
) -> None:
    save_bundle(tmp_path / "model", make_content("resnet18"))
    change_config(tmp_path / "model", lambda c: c["discern"]["preprocess"].update(fault))
    result = replay_golden(tmp_path / "model")
    assert not result.ok
    assert result.max_gap > result.allowed


def test_golden_replay_finds_weights_that_are_not_finite(
    tmp_path: Path, make_content: MakeContent
) -> None:
    from safetensors.torch import load_file, save_file

    save_bundle(tmp_path / "model", make_content("resnet18"))
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors["fc.bias"][:] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    sign_again(tmp_path / "model")
    result = replay_golden(tmp_path / "model")
    assert not result.ok
    assert result.record()["max_gap"] is None


@pytest.mark.parametrize("path", ["os:getcwd", "discern/os:getcwd", "./net.py:build"])
def test_no_code_is_loaded_from_a_bundle(
    tmp_path: Path,
    make_content: MakeContent,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("open('ran', 'w').close()\ndef build(**_): ...\n")
    save_bundle(tmp_path / "model", make_content())
    change_config(tmp_path / "model", lambda c: c["discern"].update(architecture=path))
    with pytest.raises(ModelError, match="code from a bundle is not run"):
        open_bundle(tmp_path / "model")
    assert not Path("ran").exists()


def test_network_of_the_users_file_opens_for_the_run_that_names_it(
    tmp_path: Path, make_content: MakeContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from torch import nn\n"
        "def build(num_classes, channels, image_size):\n"
        "    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(8, num_classes))\n"
    )
    content = make_content("./net.py:build")
    save_bundle(tmp_path / "model", content)
    with pytest.raises(ModelError, match="not run"):
        open_bundle(tmp_path / "model")
    bundle = open_bundle(tmp_path / "model", trusted="./net.py:build")
    torch.testing.assert_close(
        logits_of(bundle.model, content), logits_of(content.model, content), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("discern"), "not a bundle of Discern"),
        (lambda c: c["discern"].update(version=99), "version"),
        (lambda c: c["discern"].update(temperature=0.0), "temperature"),
        (lambda c: c["discern"].pop("heads"), "lacks"),
        (lambda c: c["discern"]["preprocess"].pop("mean"), "lacks"),
        (lambda c: c["discern"]["preprocess"].update(channels=4), "lacks"),
        (lambda c: c["discern"].update(architecture="resnet1"), "cannot be built"),
        (lambda c: c["discern"].update(architecture="resnet10t"), "do not fit"),
        (lambda c: c["discern"]["heads"][0]["classes"].append("dog"), "do not fit"),
    ],
)
def test_damaged_config_is_told_in_words(
    tmp_path: Path, make_content: MakeContent, change: Callable[[Any], None], message: str
) -> None:
    save_bundle(tmp_path / "model", make_content("resnet18"))
    change_config(tmp_path / "model", change)
    with pytest.raises(ModelError, match=message):
        open_bundle(tmp_path / "model")


def test_golden_image_of_another_name_keeps_its_bytes(
    tmp_path: Path, make_content: MakeContent
) -> None:
    content = make_content()
    data = content.golden_images[0].image
    evil = GoldenImage("../../etc/passwd", data)
    save_bundle(tmp_path / "model", replace(content, golden_images=(evil,)))
    assert data == (tmp_path / "model" / "golden" / "00.jpg").read_bytes()


def test_processor_config_says_the_same_as_the_bundle(
    tmp_path: Path, make_content: MakeContent
) -> None:
    save_bundle(tmp_path / "model", make_content("resnet18"))
    record = json.loads((tmp_path / "model" / "preprocessor_config.json").read_text())
    assert {"shortest_edge": 35} == record["size"]
    assert {"height": 32, "width": 32} == record["crop_size"]
    assert [0.45] * 3 == record["image_mean"]
    assert 2 == record["resample"]


def test_everybody_may_read_what_they_may_read_of_other_files(
    tmp_path: Path, make_content: MakeContent
) -> None:
    (tmp_path / "plain").write_text("")
    save_bundle(tmp_path / "model", make_content())
    modes = {file.stat().st_mode for file in (tmp_path / "model").rglob("*") if file.is_file()}
    assert {(tmp_path / "plain").stat().st_mode} == modes
