"""Features kept for the runs of a group: only missing ones are computed, no stale one is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from discern.base.errors import RunError
from discern.data.images import Preprocess
from discern.models.classifier import set_trainable, wrap_network
from discern.models.nets.fast_net import fast_net
from discern.training.frozen_features import trial_images
from discern.training.kept_features import FeatureStore, frozen_key

CPU = torch.device("cpu")
PREPROCESS = Preprocess(height=16, width=16, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
NAMES = ["a", "b", "c", "d"]


class Computed:
    """Features that tell their image and how often anything was computed: [V, n, 3]."""

    def __init__(self, names, views=1):
        self.names, self.views, self.asked = names, views, []

    def __call__(self, rows):
        self.asked.append([self.names[row] for row in rows])
        values = torch.tensor([[float(ord(self.names[row]))] * 3 for row in rows])
        return torch.stack([values + 1000 * view + len(self.asked) for view in range(self.views)])


def test_only_what_no_run_has_computed_is_computed(tmp_path):
    first, second = Computed(["b", "a"]), Computed(NAMES)
    kept = FeatureStore(tmp_path).features("k", ["b", "a"], 1, first)
    assert [["b", "a"]] == first.asked
    given = FeatureStore(tmp_path).features("k", NAMES, 1, second)
    assert [["c", "d"]] == second.asked
    assert torch.equal(given[:, [1, 0]], kept)
    again = Computed(NAMES)
    assert torch.equal(given, FeatureStore(tmp_path).features("k", NAMES, 1, again))
    assert torch.equal(given[:, [3, 1]], FeatureStore(tmp_path).features("k", ["d", "b"], 1, again))
    assert [] == again.asked


def test_mirror_images_and_other_keys_are_computed_anew(tmp_path):
    store = FeatureStore(tmp_path)
    store.features("k", ["a"], 1, Computed(NAMES))
    both = Computed(["a", "b"], views=2)
    given = store.features("k", ["a", "b"], 2, both)
    assert [["a", "b"]] == both.asked
    assert (2, 2, 3) == tuple(given.shape)
    other = Computed(["b"])
    assert torch.equal(given[:1, 1:], store.features("k", ["b"], 1, other))
    assert [] == other.asked
    store.features("other", ["b"], 1, other)
    assert [["b"]] == other.asked


def test_halves_keep_their_precision(tmp_path):
    given = torch.randn(1, 2, 5).bfloat16()
    FeatureStore(tmp_path).features("k", ["a", "b"], 1, lambda _: given)
    kept = FeatureStore(tmp_path).features("k", ["b"], 1, Computed([]))
    assert torch.bfloat16 == kept.dtype
    assert torch.equal(given[:, 1:], kept)


def test_a_store_that_begins_no_key_remembers_the_latest_alone(tmp_path):
    store = FeatureStore(tmp_path, begins=False)
    computed = Computed(["a"])
    for key in ("k", "k", "other", "k"):
        store.features(key, ["a"], 1, computed)
    assert 3 == len(computed.asked)
    assert [] == list(tmp_path.iterdir())
    FeatureStore(tmp_path).features("there", ["a"], 1, computed)
    store.features("there", ["a", "b"], 1, Computed(["a", "b"]))
    assert 2 == len(list((tmp_path / "there").iterdir()))


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[:-1] + b"\x7f"])
def test_damaged_file_is_told(tmp_path, damage):
    FeatureStore(tmp_path).features("k", NAMES, 1, Computed(NAMES))
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(RunError, match="kept features cannot be read") as told:
        FeatureStore(tmp_path).features("k", NAMES, 1, Computed(NAMES))
    assert str(file.parent) in str(told.value.hint)


def network(**given):
    torch.manual_seed(0)
    built = fast_net(num_classes=2, channels=3, image_size=(16, 16), **{"width": 8, **given})
    model = wrap_network(built, trial_images((3, 16, 16), CPU))
    set_trainable(model, "head")
    return model


def test_key_is_of_all_that_makes_a_feature_and_of_no_head():
    model = network()
    key = frozen_key(model, PREPROCESS, CPU)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor += float(model.is_head(name))
    assert key == frozen_key(model, PREPROCESS, CPU)
    keys = {key, frozen_key(model, PREPROCESS, CPU, torch.bfloat16)}
    keys |= {frozen_key(model, replace(PREPROCESS, crop_pct=0.9), CPU)}
    model.train()
    assert key == frozen_key(model, PREPROCESS, CPU)
    assert model.training
    # A buffer, a weight, and code: the same weights in a network that computes otherwise.
    for change in ("buffer", "weight"):
        other = network()
        found = dict(other.named_buffers() if change == "buffer" else other.named_parameters())
        name = next(name for name in found if not other.is_head(name))
        with torch.no_grad():
            found[name] += 1
        keys.add(frozen_key(other, PREPROCESS, CPU))
    other = network()
    own = other.network.features
    other.network.features = lambda images: own(images) * np.float32(1.5)
    keys.add(frozen_key(other, PREPROCESS, CPU))
    assert 6 == len(keys)
