"""Bundles: saved, verified, opened by us and by timm; damage is named; no code is run."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from discern.base.errors import DiscernError, ModelError, RunError
from discern.base.files import hash_file
from discern.data.head_spec import HeadSpec
from discern.data.images import Preprocess
from discern.exporting import bundle as bundles
from discern.exporting.content import BundleContent, GoldenImage
from discern.models.catalogue import ModelRequest, build_model

CLASSES = ("cat", "dog | <b>", "=fish")


def jpeg(seed, size=(50, 40)):
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(stream, "JPEG")
    return stream.getvalue()


def make_content(name="lenet", channels=1, size=28, images=None, **changes):
    torch.manual_seed(0)
    built = build_model(
        ModelRequest(
            name=name, num_classes=len(CLASSES), channels=channels, image_size=(size, size)
        )
    )
    preprocess = Preprocess(
        height=size, width=size, channels=channels, mean=(0.4,) * channels, std=(0.3,) * channels
    )
    if images is None:
        images = tuple(GoldenImage(f"{seed}.jpg", jpeg(seed)) for seed in range(3))
    values = {
        "model": built.model,
        "architecture": built.architecture,
        "arguments": built.arguments,
        "heads": (HeadSpec("label", "single", CLASSES),),
        "preprocess": preprocess,
        "golden_images": images,
        "run": "demo/lenet-1",
    }
    return BundleContent(**{**values, **changes})


@pytest.fixture
def saved(tmp_path):
    bundles.save_bundle(tmp_path / "model", make_content())
    return tmp_path / "model"


def resign(folder):
    """Write the sums anew, as somebody who edits a bundle on purpose would."""
    record = json.loads((folder / "sha256.json").read_text())
    record["files"] = {name: hash_file(folder / name) for name in record["files"]}
    (folder / "sha256.json").write_text(json.dumps(record))


def edit_config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config["discern"])
    (folder / "config.json").write_text(json.dumps(config))
    resign(folder)


def test_opened_bundle_gives_the_logits_of_the_model_it_was_made_from(tmp_path):
    content = make_content()
    bundles.save_bundle(tmp_path / "model", content)
    opened = bundles.open_bundle(tmp_path / "model")
    images = torch.randn(4, 1, 28, 28)
    with torch.inference_mode():
        expected = content.model.eval()(images).logits
        assert torch.equal(expected, opened.model(images).logits)
    assert opened.classes == CLASSES
    assert opened.preprocess == content.preprocess


def test_bundle_holds_the_named_files_and_a_sum_of_each(saved):
    files = {file.relative_to(saved).as_posix() for file in saved.rglob("*") if file.is_file()}
    named = {"model.safetensors", "config.json", "preprocessor_config.json", "README.md"}
    golden = {"golden/golden.json", "golden/expected.safetensors"}
    images = {f"golden/0{number}.jpg" for number in range(3)}
    assert files == named | golden | images | {"sha256.json"}
    sums = json.loads((saved / "sha256.json").read_text())["files"]
    assert sums.keys() == files - {"sha256.json"}


def test_config_says_what_readers_need(saved):
    config = json.loads((saved / "config.json").read_text())
    assert config["architecture"] == "discern/lenet"
    assert config["label_names"] == list(CLASSES)
    assert config["pretrained_cfg"]["input_size"] == [1, 28, 28]
    assert config["pretrained_cfg"]["mean"] == [0.4]
    own = config["discern"]
    assert own["heads"] == [{"name": "label", "kind": "single", "classes": list(CLASSES)}]
    assert own["thresholds"] is None
    assert own["temperature"] is None
    assert own["run"] == "demo/lenet-1"


def test_replay_of_an_untouched_bundle_agrees(saved):
    result = bundles.replay_golden(saved)
    assert result.ok
    assert (result.count, result.top1_agreement, result.pixels_equal) == (3, 1.0, 3)
    assert result.max_gap < 1e-5


def test_replay_finds_weights_that_were_changed(saved):
    from safetensors.torch import load_file, save_file

    tensors = load_file(saved / "model.safetensors")
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] + 0.5}, saved / "model.safetensors")
    resign(saved)
    result = bundles.replay_golden(saved)
    assert not result.ok
    assert result.max_gap > 1e-3
    assert result.pixels_equal == 3


def test_replay_finds_another_preprocessing(saved):
    edit_config(saved, lambda own: own["preprocess"].update(mean=[0.5]))
    assert not bundles.replay_golden(saved).ok


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "config.json", "README.md", "golden/00.jpg", "golden/golden.json"],
)
def test_changed_byte_is_an_error_that_names_the_file(saved, name):
    data = bytearray((saved / name).read_bytes())
    data[len(data) // 2] ^= 1
    (saved / name).write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256 differs") as caught:
        bundles.open_bundle(saved)
    assert caught.value.where.endswith(name)


def test_missing_file_is_an_error_that_names_it(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="missing") as caught:
        bundles.open_bundle(saved)
    assert caught.value.where.endswith("model.safetensors")


def test_damaged_list_of_sums_is_an_error(saved):
    (saved / "sha256.json").write_text("{")
    with pytest.raises(ModelError, match=r"sha256\.json"):
        bundles.open_bundle(saved)


def test_folder_that_is_no_bundle_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="missing"):
        bundles.open_bundle(tmp_path)


def test_newer_version_is_refused(saved):
    edit_config(saved, lambda own: own.update(version=2))
    with pytest.raises(ModelError, match="version") as caught:
        bundles.open_bundle(saved)
    assert "upgrade" in caught.value.hint


def test_lacking_key_is_an_error(saved):
    edit_config(saved, lambda own: own.pop("heads"))
    with pytest.raises(ModelError, match="heads"):
        bundles.open_bundle(saved)


def test_name_outside_the_bundle_is_refused(saved):
    record = json.loads((saved / "sha256.json").read_text())
    record["files"]["../secret"] = "0" * 64
    (saved / "sha256.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match="outside"):
        bundles.open_bundle(saved)


def test_bundle_never_chooses_the_code_that_runs(saved, tmp_path):
    ran = tmp_path / "ran"
    code = tmp_path / "net.py"
    code.write_text(f"open({str(ran)!r}, 'w').close()\ndef net(**a): pass\n")
    edit_config(saved, lambda own: own.update(architecture=f"{code}:net"))
    with pytest.raises(ModelError, match="code"):
        bundles.open_bundle(saved)
    assert not ran.exists()


def test_bundle_cannot_name_other_files_to_load(saved):
    edit_config(saved, lambda own: own.update(arguments={"checkpoint_path": "evil.pth"}))
    with pytest.raises(ModelError, match="outside itself"):
        bundles.open_bundle(saved)


def test_stored_temperature_is_never_ignored(saved):
    edit_config(saved, lambda own: own.update(temperature=1.5))
    assert bundles.open_bundle(saved).rules.of("label").temperature == 1.5


def test_tensors_of_another_network_are_an_error(saved):
    edit_config(saved, lambda own: own.update(architecture="discern/mlp", arguments={}))
    with pytest.raises(ModelError, match="do not fit"):
        bundles.open_bundle(saved)


def test_older_bundle_is_replaced_and_nothing_else_is_left(saved):
    before = hash_file(saved / "config.json")
    bundles.save_bundle(saved, make_content(run="demo/lenet-2"))
    assert before != hash_file(saved / "config.json")
    assert [saved] == list(saved.parent.iterdir())


def test_folder_of_another_kind_is_not_overwritten(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="something else"):
        bundles.save_bundle(tmp_path / "model", make_content())
    assert (tmp_path / "model" / "thesis.txt").read_text() == "x"


def test_failed_save_keeps_the_older_bundle(saved):
    content = make_content()
    with torch.no_grad():
        next(content.model.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        bundles.save_bundle(saved, content)
    assert bundles.replay_golden(saved).ok
    assert [saved] == list(saved.parent.iterdir())


def test_model_that_its_name_does_not_rebuild_is_refused(tmp_path):
    content = make_content(architecture="discern/mlp", arguments={})
    with pytest.raises(DiscernError, match="do not fit"):
        bundles.save_bundle(tmp_path / "model", content)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("channels", "shape"), [(1, (9, 9, 1)), (3, (9, 9, 3)), (1, (40, 31, 1))])
def test_array_images_are_kept_as_png_with_equal_pixels(tmp_path, channels, shape):
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    content = make_content(channels=channels, images=(GoldenImage("0", pixels),))
    bundles.save_bundle(tmp_path / "model", content)
    data = (tmp_path / "model" / "golden" / "00.png").read_bytes()
    np.testing.assert_array_equal(content.preprocess.apply(pixels), content.preprocess.apply(data))
    assert bundles.replay_golden(tmp_path / "model").ok


def test_original_bytes_are_kept(saved):
    assert jpeg(1) == (saved / "golden" / "01.jpg").read_bytes()


def test_weights_of_timm_networks_open_in_timm(tmp_path):
    import timm

    content = make_content("mobilenetv2_035", channels=3, size=64, weights_license="apache-2.0")
    bundles.save_bundle(tmp_path / "model", content)
    reader = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = content.model.eval()(images).logits
        torch.testing.assert_close(expected, reader(images), rtol=0, atol=1e-5)
    assert reader.pretrained_cfg["mean"] == (0.4, 0.4, 0.4) or reader.pretrained_cfg["mean"] == [
        0.4,
        0.4,
        0.4,
    ]
    assert tuple(reader.pretrained_cfg["input_size"]) == (3, 64, 64)
    assert list(reader.pretrained_cfg["label_names"]) == list(CLASSES)
    assert "pretrained=True" in (tmp_path / "model" / "README.md").read_text()


def test_timm_resizes_and_normalizes_as_the_bundle_says(tmp_path):
    from timm.data import create_transform, resolve_data_config

    content = make_content("mobilenetv2_035", channels=3, size=64)
    bundles.save_bundle(tmp_path / "model", content)
    settings = json.loads((tmp_path / "model" / "config.json").read_text())["pretrained_cfg"]
    transform = create_transform(**resolve_data_config(settings))
    data = jpeg(7, size=(90, 80))
    theirs = transform(Image.open(io.BytesIO(data))).numpy().transpose(1, 2, 0)
    ours = (content.preprocess.apply(data) / 255 - 0.4) / 0.3
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_card_has_front_matter_and_escapes_names(saved):
    from ruamel.yaml import YAML

    text = (saved / "README.md").read_text()
    front = YAML(typ="safe").load(text.split("---\n")[1])
    assert front["library_name"] == "discern"
    assert front["pipeline_tag"] == "image-classification"
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "other readers open the tensors, not the model" in text


def test_heads_that_the_network_has_not_are_refused(tmp_path):
    head = HeadSpec("label", "single", CLASSES)
    with pytest.raises(ModelError, match="not the heads of the network"):
        bundles.save_bundle(tmp_path / "model", make_content(heads=(head, head)))


def test_bundle_without_golden_image_is_refused(tmp_path):
    with pytest.raises(ModelError, match="golden"):
        bundles.save_bundle(tmp_path / "model", make_content(images=()))
