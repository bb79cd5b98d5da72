"""Several networks as one."""

import pytest
import torch

from discern.base.errors import ConfigError
from discern.data.images import Preprocess
from discern.models.catalogue import ModelRequest, build_model
from discern.models.ensemble import Ensemble

ARGUMENTS = {"member": "discern/mlp", "count": 2, "arguments": {}, "changes": {}}


def member(seed):
    torch.manual_seed(seed)
    request = ModelRequest(name="mlp", num_classes=3, channels=2, image_size=(8, 8))
    return build_model(request).model.eval()


def test_probabilities_are_the_mean_of_the_members_under_their_own_normalizations():
    members = [member(0), member(1)]
    normal = [
        Preprocess(height=8, width=8, channels=2, mean=(0.5, 0.4), std=(0.2, 0.3)),
        Preprocess(height=8, width=8, channels=2, mean=(0.1, 0.6), std=(0.4, 0.1)),
    ]
    raw = torch.rand(5, 2, 8, 8)

    def seen(one):
        mean, std = torch.tensor(one.mean), torch.tensor(one.std)
        return (raw - mean[:, None, None]) / std[:, None, None]

    pairs = zip(members, normal, strict=True)
    expected = torch.stack([m(seen(p)).logits.softmax(1) for m, p in pairs]).mean(0)
    ensemble = Ensemble(members, 2)
    ensemble.set_normalizations(normal)
    got = ensemble(seen(normal[0])).softmax(1)
    assert torch.allclose(expected, got, atol=1e-6)


def test_it_is_built_again_by_name_and_arguments():
    ensemble = Ensemble([member(0), member(1)], 2).eval()
    request = ModelRequest(
        name="ensemble", num_classes=3, channels=2, image_size=(8, 8), arguments=ARGUMENTS
    )
    built = build_model(request)
    built.model.network.load_state_dict(ensemble.state_dict())
    images = torch.rand(4, 2, 8, 8)
    assert torch.equal(ensemble(images), built.model.eval()(images).logits)
    assert "discern/ensemble" == built.architecture


@pytest.mark.parametrize("arguments", [{}, {**ARGUMENTS, "count": 0}, {**ARGUMENTS, "more": 1}])
def test_other_arguments_are_refused(arguments):
    with pytest.raises(ConfigError, match="kfold --ensemble"):
        build_model(
            ModelRequest(
                name="ensemble", num_classes=3, channels=2, image_size=(8, 8), arguments=arguments
            )
        )
