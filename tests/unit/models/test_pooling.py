"""Pooling by name: widths, values, Catalyst's spellings."""

from __future__ import annotations

import pytest
import torch

from discern.base.errors import ConfigError
from discern.models.pooling import build_pooling

# Channels out of 6: the concatenations double and treble them.
WIDTHS = {
    "avg": 6,
    "max": 6,
    "concat": 12,
    "attn": 6,
    "avg_attn": 12,
    "max_attn": 12,
    "concat_attn": 18,
}
CATALYST = {
    "GlobalAvg": "avg",
    "GlobalMax": "max",
    "GlobalConcat": "concat",
    "GlobalAttn": "attn",
    "GlobalAvgAttn": "avg_attn",
    "GlobalMaxAttn": "max_attn",
    "GlobalConcatAttn": "concat_attn",
}


@pytest.mark.feature("CA-29")
@pytest.mark.parametrize(("name", "expected"), WIDTHS.items())
def test_features_are_as_wide_as_stated(name: str, expected: int) -> None:
    assert (2, expected) == tuple(build_pooling(name, 6, {})(torch.rand(2, 6, 5, 4)).shape)


@pytest.mark.feature("CA-29")
@pytest.mark.parametrize(("name", "known"), CATALYST.items())
def test_catalysts_names_are_the_same_poolings(name: str, known: str) -> None:
    maps = torch.rand(2, 6, 5, 4)
    torch.manual_seed(0)
    expected = build_pooling(known, 6, {})(maps)
    for spelled in (name, f"{name}Pool2d"):
        torch.manual_seed(0)
        assert torch.equal(expected, build_pooling(spelled, 6, {})(maps))


def test_values_of_average_maximum_and_attention() -> None:
    maps = torch.tensor([[[[1.0, 3.0], [0.0, 4.0]]]])
    assert [2.0] == build_pooling("avg", 1, {})(maps)[0].tolist()
    assert [4.0] == build_pooling("max", 1, {})(maps)[0].tolist()
    assert [2.0, 4.0] == build_pooling("concat", 1, {})(maps)[0].tolist()
    attention = build_pooling("attn", 1, {})
    with torch.no_grad():
        attention.score.weight.zero_()
        attention.score.bias.zero_()
    # Every pixel weighs sigmoid(0): half of the sum of 8.
    assert [4.0] == attention(maps)[0].tolist()


@pytest.mark.feature("CA-29")
def test_windows_of_seven_cover_the_maps_of_224_pixels() -> None:
    assert (2, 6) == tuple(build_pooling("MaxPool2d", 6, {})(torch.rand(2, 6, 7, 7)).shape)
    wide = build_pooling("max_pool", 6, {"kernel_size": 2})(torch.rand(2, 6, 4, 4))
    assert (2, 24) == tuple(wide.shape)


def test_unknown_names_and_arguments_are_errors() -> None:
    with pytest.raises(ConfigError, match="did you mean 'concat'"):
        build_pooling("conkat", 6, {})
    with pytest.raises(ConfigError, match="unknown argument 'size'"):
        build_pooling("max_pool", 6, {"size": 2})
    with pytest.raises(ConfigError, match="at least 1 pixel"):
        build_pooling("max_pool", 6, {"kernel_size": 0})
