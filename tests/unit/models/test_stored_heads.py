"""Which rows of a weights file start which head of a network, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from discern.models.catalogue import BuiltModel, ModelRequest, build_model


def build(name: str, **options: object) -> BuiltModel:
    settings: dict[str, object] = {"image_size": (16, 16), **options}
    return build_model(ModelRequest(name=name, **settings))  # type: ignore[arg-type]


@pytest.fixture
def two_heads(tmp_path: Path) -> tuple[Path, BuiltModel]:
    """The weights of a network with heads of 3 and 2 classes."""
    heads = {"color": 3, "the shape": 2}
    built = build("fast_net", num_classes=5, heads=heads, arguments={"width": 4})
    path = tmp_path / "two.safetensors"
    save_file(built.model.network.state_dict(), path)
    return path, built


def test_rows_of_one_classifier_start_no_heads_of_as_many_classes(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    one = build("fast_net", num_classes=5, arguments={"width": 4}).model.network
    save_file(one.state_dict(), path)
    built = build(
        "fast_net", num_classes=5, heads={"color": 3, "the shape": 2}, weights=str(path),
        arguments={"width": 4},
    )  # fmt: skip
    names = {f"head.{layer}.weight" for layer in ("color", "the_shape")}
    assert names <= set(built.weights_report.missing)
    assert "head.weight" in built.weights_report.unexpected
    own = built.model.network.state_dict()
    assert not any(own[name].any() for name in names)
    assert any("new heads: head.color.weight" in line for line in built.report_lines())
    same = {n: v for n, v in one.state_dict().items() if not n.startswith("head.")}
    assert all(own[name].equal(value) for name, value in same.items())


def test_the_same_heads_start_from_their_own_rows(two_heads: tuple[Path, BuiltModel]) -> None:
    path, source = two_heads
    built = build(
        "fast_net", num_classes=5, heads={"color": 3, "the shape": 2}, weights=str(path),
        arguments={"width": 4},
    )  # fmt: skip
    assert () == built.weights_report.missing
    own = built.model.network.state_dict()
    for name, value in source.model.network.state_dict().items():
        assert own[name].equal(value)


@pytest.mark.parametrize(
    "heads", [{}, {"the shape": 3, "color": 2}, {"color": 2, "the shape": 3}, {"hue": 3, "side": 2}]
)
def test_rows_of_other_heads_start_nothing(
    two_heads: tuple[Path, BuiltModel], heads: dict[str, int]
) -> None:
    path, source = two_heads
    built = build("fast_net", num_classes=5, heads=heads, weights=str(path), arguments={"width": 4})
    assert {"head.color.weight", "head.the_shape.weight"} <= set(built.weights_report.unexpected)
    own = built.model.network.state_dict()
    new = [name for name in own if name.startswith("head.")]
    assert set(new) == set(built.weights_report.missing)
    assert not any(own[name].any() for name in new)
    assert all(own[n].equal(v) for n, v in source.model.network.state_dict().items()
               if not n.startswith("head."))  # fmt: skip
