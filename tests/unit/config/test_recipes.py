"""What the proposed settings make of people's own."""

from __future__ import annotations

from discern.config.layers import Layer
from discern.config.recipes import shorten_warmups


def test_a_recipes_warm_up_takes_half_of_a_short_stage_at_most() -> None:
    recipe = Layer("recipe", "recipe x", {"stages": {"a": {"warmup_epochs": 2.0}, "b": {}}})
    assert not shorten_warmups(recipe, {"a": 4, "b": 1})
    assert shorten_warmups(recipe, {"a": 1, "b": 1})
    assert {"a": {"warmup_epochs": 0.5}, "b": {}} == recipe.value["stages"]
    assert not shorten_warmups(recipe, {"a": None})
