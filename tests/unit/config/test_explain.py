import pytest

from discern.base.errors import ConfigError
from discern.config.dependents import DEPENDENCES
from discern.config.explain import CHOSEN, explain_key
from discern.config.layers import Layer, pair_layer, resolve, set_layer
from discern.config.reference import reference_rows

BASE = Layer(
    "recipe",
    "recipe small",
    {"data": {"source": "digits"}, "stages": {"a": {"lr": 0.1}, "b": {}}},
)


def one(key, *layers, stored=None):
    (found,) = explain_key(key, resolve([BASE, *layers]), stored_origins=stored)
    return found


def test_keys_of_the_table_are_in_the_schema():
    known = {row.key for row in reference_rows()}
    named = {d.key for d in DEPENDENCES} | {
        d.dependent for d in DEPENDENCES if not d.dependent[0].isupper()
    }
    assert set() == named - known


def test_value_and_origin_of_each_stage():
    found = one("lr", pair_layer("flag", "--epochs", "stages.*.epochs", 3))
    expected = [("stages.a.lr", 0.1, "recipe small"), ("stages.b.lr", 0.001, "default")]
    assert expected == [(v.key, v.value, v.origin) for v in found.values]


def test_lr_depends_on_lr_base_with_its_value():
    found = one("stages.a.lr", set_layer("stages.a.lr_base=0.5"))
    (base,) = [r for r in found.depends_on if r.key == "stages.a.lr_base"]
    assert (0.5, "where lr_base is given, lr is not used") == (base.value, base.how)
    back = one("stages.a.lr_base")
    assert ["stages.a.lr"] == [r.key for r in back.dependents]


def test_model_decides_recipe_size_and_normalization():
    keys = {r.key for r in one("model.name").dependents}
    assert {"Recipe", "data.image_size", "data.mean", "data.std", "model.weights"} <= keys


def test_a_section_is_told_key_by_key():
    found = explain_key("stages.a", resolve([BASE]))
    expected = [r.key for r in reference_rows() if r.key.startswith("stages.*.")]
    assert expected == [e.reference.key for e in found]
    assert ["stages.a.lr"] == [v.key for e in found for v in e.values if v.key.endswith(".lr")]


def test_origins_stored_by_a_run_are_told():
    layers = [set_layer("stages.a.lr=0.3"), set_layer("data.channels=3")]
    found = one("stages.a.lr", *layers, stored={"stages.a.lr": "--lr"})
    assert "--lr" == found.values[0].origin
    assert CHOSEN == one("data.channels", *layers, stored={}).values[0].origin
    assert "default" == one("data.depth", *layers, stored={}).values[0].origin


@pytest.mark.parametrize("key", ["nothing", "stages.c.lr", "stages.a.lr.x", "name", ""])
def test_keys_that_there_are_not(key):
    with pytest.raises(ConfigError):
        explain_key(key, resolve([BASE]))
