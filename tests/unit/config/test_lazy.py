"""Lazy configs: what is computed, when, from what, and what is said when it cannot be."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.base.errors import ConfigError, ItemError, UnknownItem, UsedItem
from discern.config.lazy import (
    BaseConfigs,
    aggregate,
    calculate,
    compute,
    hyperparams,
    meta_config,
    option,
    override,
    watch,
)
from discern.config.lazy_record import flat, given_again, hyperparams_of, items_record


class Net:
    def __init__(self, width):
        self.width = width


class Loop:
    def __init__(self, c: Plain):
        self.width = c.width


class Plain(BaseConfigs):
    epochs: int = 10
    width: int = 4
    rate = 0.5
    model: Net
    loop: Loop
    _hidden = 3

    def run(self):
        return self.model.width


@Plain.calc(Plain.model)
def small(c: Plain):
    return Net(c.width)


@Plain.calc(Plain.model, "wide")
def _wide(c: Plain):
    return Net(10 * c.width)


@pytest.mark.feature("LB-01")
def test_annotated_names_are_items_and_values_their_defaults():
    configs = Plain()
    assert (10, 0.5) == (configs.epochs, configs.rate)
    assert ["epochs", "width", "model", "loop", "rate"] == [
        r["name"] for r in items_record(configs)
    ]
    assert "Plain.model" == repr(Plain.model)


@pytest.mark.feature("LB-01")
def test_missing_item_names_itself_and_the_nearest():
    class Open(BaseConfigs):
        mode: str
        model: Any

    with pytest.raises(ItemError, match="'model' has no value") as caught:
        _ = Open().model
    assert "did you mean 'mode'?" == caught.value.hint


@pytest.mark.feature("LB-02")
def test_functions_take_configs_nothing_or_listed_items():
    class Three(BaseConfigs):
        a: int = 2
        b: int = 3
        with_configs: int
        with_nothing: int
        with_items: int
        one: int
        two: int

    @Three.calc()
    def with_configs(c: Three):
        return c.a * c.b

    @Three.calc(Three.with_nothing)
    def seven():
        return 7

    calls = []

    @Three.calc([Three.one, Three.two])
    def both(c: Three):
        calls.append(1)
        return c.a, c.b

    Three.calc(Three.with_items, "minus", [Three.a, Three.b])(lambda x, y: x - y)
    configs = Three()
    assert (6, 7, -1) == (configs.with_configs, configs.with_nothing, configs.with_items)
    assert (2, 3, 1) == (configs.one, configs.two, len(calls))


@pytest.mark.feature("LB-02")
def test_later_spellings_register_the_same():
    class Later(BaseConfigs):
        a: int = 2
        b: int
        c: int
        d: int

    @option(Later.b, "twice")
    def _(c: Later):
        return 2 * c.a

    calculate(Later.c, [Later.a], lambda a: a + 1)
    calculate(Later.d, "named", [Later.a], lambda a: a + 2)
    configs = Later()
    assert (4, 3, 4) == (configs.b, configs.c, configs.d)
    assert ["twice"] == _record(configs, "b")["options"]
    assert "named" == _record(configs, "d")["option"]


def test_tuple_of_another_length_is_told():
    class Pair(BaseConfigs):
        one: int
        two: int

    Pair.calc([Pair.one, Pair.two], "three")(lambda: (1, 2, 3))
    with pytest.raises(ItemError, match="computes 2 items"):
        _ = Pair().one


def test_function_that_wants_more_than_the_configs_is_refused():
    with pytest.raises(ConfigError, match="cannot be called"):
        Plain.calc(Plain.model, "odd")(lambda a, b: a)
    assert "odd" not in _record(Plain(), "model")["options"]


@pytest.mark.feature("LB-03")
def test_text_that_names_an_option_runs_it():
    configs = Plain()
    configs.model = "wide"
    assert 40 == configs.model.width
    assert 4 == Plain().model.width  # the first registered is the default
    assert ["small", "wide"] == _record(configs, "model")["options"]


@pytest.mark.feature("LB-03")
def test_other_values_are_used_as_they_are():
    class Open(BaseConfigs):
        model: any

    Open.calc(Open.model, "small")(lambda: 1)
    own = Net(1)
    assert own is Plain(model=own).model
    assert "other" == Open(model="other").model
    with pytest.warns(UserWarning, match="no option 'smell'.*did you mean 'small'"):
        assert "smell" == Open(model="smell").model


def test_misspelled_option_of_a_typed_item_is_told():
    with pytest.raises(ItemError, match="no option 'wid'") as caught:
        _ = Plain(model="wid").model
    assert "did you mean 'wide'?" == caught.value.hint


LEVELS = [
    ("override", "override", {"override", "set", "set_default", "aggregate", "default", "option"}),
    ("set", "set", {"set", "set_default", "aggregate", "default", "option"}),
    ("set_default", "set_default", {"set_default", "aggregate", "default", "option"}),
    ("aggregate", "preset", {"aggregate", "default", "option"}),
    ("default", "default", {"default", "option"}),
    ("option", "the first option", {"option"}),
]


@pytest.mark.feature("LB-04")
@pytest.mark.parametrize(("source", "expected", "given_at"), LEVELS)
def test_the_strongest_of_six_places_gives_the_value(source, expected, given_at):
    class Item(BaseConfigs):
        preset: str = "on" if "aggregate" in given_at else "off"
        item: Any

    if "default" in given_at:

        class Item(Item):  # type: ignore[no-redef]
            item: Any = "default"

    if "option" in given_at:
        Item.calc(Item.item, "first")(lambda: "the first option")
    Item.aggregate(Item.preset, "on", (Item.item, "preset"))
    configs = Item()
    if "set_default" in given_at:
        configs.set_default(Item.item, func=lambda: "set_default")
    if "set" in given_at:
        configs.item = "set"
    if "override" in given_at:
        override(configs, {"item": "override"})
    assert expected == configs.item
    assert source == _record(configs, "item")["source"]


@pytest.mark.feature("LB-04")
def test_last_the_annotated_class_is_made_of_the_configs():
    configs = Plain(width=7)
    assert 7 == configs.loop.width
    assert ("class", ["width"]) == tuple(
        _record(configs, "loop")[key] for key in ("source", "needs")
    )


@pytest.mark.feature("LB-04")
@pytest.mark.parametrize("kind", ["int", "str", "bool", "float", "dict[str, int]", "list[int]"])
def test_plain_types_are_never_made_of_the_configs(kind):
    Item = type("Item", (BaseConfigs,), {"__annotations__": {"item": kind}})  # noqa: N806
    with pytest.raises(ItemError, match="'item' has no value"):
        _ = Item().item


def test_class_that_takes_something_else_is_not_made_of_the_configs():
    class Item(BaseConfigs):
        item: Net  # its parameter is a width

    with pytest.raises(ItemError, match="'item' has no value"):
        _ = Item().item


@pytest.mark.feature("LB-05")
def test_cycle_names_its_chain():
    class Round(BaseConfigs):
        a: int
        b: int
        c: int

    Round.calc(Round.a, "a")(lambda c: c.b)
    Round.calc(Round.b, "b")(lambda c: c.c)
    Round.calc(Round.c, "c")(lambda c: c.b)
    with pytest.raises(ItemError, match="'b' needs itself") as caught:
        _ = Round().a
    assert "b -> c -> b" == caught.value.got


@pytest.mark.feature("LB-05")
def test_needs_are_seen_through_helper_functions():
    class Deep(BaseConfigs):
        size: int = 3
        model: int

    def through(anything):
        return getattr(anything, "si" + "ze")

    Deep.calc(Deep.model, "deep")(lambda c: through(c) + 1)
    configs = Deep()
    assert 4 == configs.model
    assert ["size"] == _record(configs, "model")["needs"]


@st.composite
def graphs(draw):
    """(edges of a random graph without cycles: item -> items it needs, items asked for)."""
    count = draw(st.integers(1, 12))
    needs = {
        f"i{item}": [f"i{n}" for n in draw(st.lists(st.integers(0, item - 1), max_size=4))]
        if item
        else []
        for item in range(count)
    }
    asked = draw(st.lists(st.sampled_from(sorted(needs)), max_size=3))
    return needs, asked


@pytest.mark.feature("LB-05", "LB-06")
@settings(max_examples=150)
@given(graphs())
def test_only_what_is_needed_is_computed_once_and_in_order(graph):
    needs, asked = graph
    Graph = type("Graph", (BaseConfigs,), {"__annotations__": dict.fromkeys(needs, "int")})  # noqa: N806
    done = []

    def function(name):
        def call(c):
            total = 1 + sum(getattr(c, need) for need in needs[name])
            done.append(name)
            return total

        return call

    for name in needs:
        Graph.calc(name, name)(function(name))
    configs = Graph()
    compute(configs, asked)
    wanted, todo = set(), list(asked)
    while todo:
        name = todo.pop()
        wanted.add(name)
        todo += needs[name]
    assert sorted(wanted) == sorted(done)  # each once
    for name in done:
        assert all(done.index(need) < done.index(name) for need in needs[name])
    records = {record["name"]: record for record in items_record(configs)}
    assert {n: list(dict.fromkeys(needs[n])) for n in done} == {
        n: records[n]["needs"] for n in done
    }
    assert done == sorted(done, key=lambda name: records[name]["order"])
    assert wanted == {name for name, record in records.items() if record["used"]}


@pytest.mark.feature("LB-06")
def test_item_set_after_its_use_is_a_value_error():
    configs = Plain()
    configs.epochs = 3
    assert 3 == configs.epochs
    with pytest.raises(ValueError, match="'epochs' is set after it was used"):
        configs.epochs = 4
    with pytest.raises(UsedItem):
        override(configs, {"epochs": 4})
    assert 3 == configs.epochs


@pytest.mark.feature("LB-06")
def test_unknown_name_is_an_attribute_error():
    configs = Plain()
    assert not hasattr(configs, "widht")
    with pytest.raises(AttributeError, match="no config item 'widht'") as caught:
        _ = configs.widht
    assert "did you mean 'width'?" == caught.value.hint
    with pytest.raises(UnknownItem):
        configs.widht = 3
    with pytest.raises(UnknownItem):
        override(configs, {"widht": 3})
    with pytest.raises(UnknownItem):
        compute(configs, ["widht"])


def test_attribute_error_of_a_function_is_told_as_it_is():
    class Faulty(BaseConfigs):
        inner: int
        outer: int

    Faulty.calc(Faulty.inner, "inner")(lambda: (3).no_such_thing)
    Faulty.calc(Faulty.outer, "outer")(lambda c: c.inner)
    for _ in range(2):
        with pytest.raises(AttributeError, match="no_such_thing"):
            _ = Faulty().outer


@pytest.mark.feature("LB-06")
def test_watcher_is_told_of_each_computation():
    class Log:
        def __init__(self):
            self.lines = []

        @contextlib.contextmanager
        def preparing(self, item):
            self.lines.append(f"Prepare {item}")
            yield

        def prepared(self, item):
            self.lines.append(item)

    log, configs = Log(), Plain()
    watch(configs, log)
    assert 4 == configs.run()
    assert ["Prepare model", "width", "model"] == log.lines


@pytest.mark.feature("LB-07")
def test_run_order_comes_first_and_groups_in_order():
    class Seeded(BaseConfigs):
        seed: int = 5
        set_seed = None
        weights: int
        data: int

        def run(self):
            return self.weights

    done = []
    Seeded.calc(Seeded.set_seed, "set_seed")(lambda c: done.append(f"seed {c.seed}"))
    Seeded.calc(Seeded.weights, "weights")(lambda: done.append("weights"))
    Seeded.calc(Seeded.data, "data")(lambda: done.append("data"))
    configs = Seeded()
    compute(configs, ["set_seed", ["data", "weights"], "run"])
    assert ["seed 5", "data", "weights"] == done


class Rates(BaseConfigs):
    learning_rate: float = 0.1
    optimizer: str
    _primary = "optimizer"


Rates.calc(Rates.optimizer, "sgd")(lambda c: f"sgd {c.learning_rate}")
Rates.calc(Rates.optimizer, "adam")(lambda c: f"adam {c.learning_rate}")


class Device(BaseConfigs):
    device: str
    cuda_device: int = 0


Device.calc(Device.device, "cuda")(lambda c: f"cuda:{c.cuda_device}")
hyperparams(Device.device, Device.cuda_device, is_hyperparam=False)


class Whole(Device, Plain):
    epochs: int = 20
    optimizer: Rates = Rates()


@pytest.mark.feature("LB-08")
def test_classes_combine_and_later_ones_override():
    class Own(Whole):
        cuda_device: int = 3

    Own.calc(Own.device, "own")(lambda c: f"own:{c.cuda_device}")
    assert (20, 4, "cuda:0") == (Whole().epochs, Whole().width, Whole().device)
    assert "own:3" == Own().device
    assert "cuda:3" == Own(device="cuda").device
    assert "cuda:0" == Whole().device  # nothing was added to the base


@pytest.mark.feature("LB-08")
def test_dots_reach_into_configs_that_an_item_holds():
    first, second = Whole(), Whole()
    override(first, {"optimizer.learning_rate": 0.2, "optimizer.optimizer": "adam"})
    assert "adam 0.2" == first.optimizer
    assert "sgd 0.1" == second.optimizer  # the class's default is not shared
    records = {record["name"]: record for record in items_record(first)}
    assert (0.2, True) == (
        records["optimizer.learning_rate"]["value"],
        records["optimizer.learning_rate"]["hyperparam"],
    )
    with pytest.raises(UnknownItem, match="'learning_rat'"):
        override(second, {"optimizer.learning_rat": 0.2})
    with pytest.raises(ConfigError, match="holds no other configs"):
        override(second, {"width.x": 0.2})


def test_annotation_alone_keeps_the_default_of_the_base():
    class Again(Plain):
        epochs: int

    class Method(Plain):
        def rate(self):
            return 1

    assert 10 == Again().epochs
    assert 1 == Method().rate()
    assert "rate" not in [record["name"] for record in items_record(Method())]


def test_item_with_the_name_of_a_method_of_all_configs_is_refused():
    with pytest.raises(ConfigError, match="cannot be called 'calc'"):
        type("Odd", (BaseConfigs,), {"calc": 3})


@pytest.mark.feature("LB-09")
def test_one_name_sets_many_items():
    class Data(BaseConfigs):
        dataset_name: str = "MNIST"
        train: str
        valid: str
        size: int = 0

    Data.calc(Data.train, "mnist_train")(lambda: "mnist 60000")
    Data.calc(Data.train, "cifar_train")(lambda: "cifar 50000")
    Data.calc(Data.valid, "mnist_valid")(lambda: "mnist 10000")
    Data.calc(Data.valid, "cifar_valid")(lambda: "cifar 10000")
    for name, size in (("mnist", 28), ("cifar", 32)):
        aggregate(
            Data.dataset_name,
            name.upper(),
            (Data.train, f"{name}_train"),
            (Data.valid, f"{name}_valid"),
            (Data.size, size),
        )

    def seen(configs):
        return configs.train, configs.valid, configs.size

    assert ("mnist 60000", "mnist 10000", 28) == seen(Data())
    assert ("cifar 50000", "cifar 10000", 32) == seen(Data(dataset_name="CIFAR"))
    assert ("mnist 60000", "cifar 10000", 32) == seen(
        Data(dataset_name="CIFAR", train="mnist_train")
    )


@pytest.mark.feature("LB-10")
def test_list_items_keep_their_order():
    class Steps(BaseConfigs):
        steps: Any = ["first"]  # noqa: RUF012
        empty: Any

    @Steps.list(Steps.steps)
    def second():
        return "second"

    class More(Steps):
        width = 3

    @More.list(More.steps)
    def third(c: More):
        return f"third {c.width}"

    More.list(More.empty)(lambda: 1)
    assert ["first", "second", "third 3"] == More().steps
    assert ["first", "second"] == Steps().steps
    assert [1] == More().empty
    assert ["own"] == More(steps=["own"]).steps


def test_lists_of_a_class_are_not_shared_by_its_objects():
    class Steps(BaseConfigs):
        steps: Any = []  # noqa: RUF012

    Steps().steps.append(1)
    assert [] == Steps().steps


@pytest.mark.feature("LB-11")
def test_overrides_are_hyperparameters_and_marks_win():
    class Marked(Whole):
        pass

    hyperparams(Marked.width)
    meta_config(Marked.epochs)
    configs = Marked()
    override(configs, {"rate": 0.25, "cuda_device": 1})
    configs.epochs = 3
    records = items_record(configs)
    assert {"rate": 0.25, "width": 4} == hyperparams_of(records)
    assert ["epochs"] == [record["name"] for record in records if record["meta"]]
    assert {"rate": 0.25, "width": 4} == given_again(records)
    assert {"rate": 0.25, "width": 4, "epochs": 3, "cuda_device": 1} == given_again(
        records, only_hyperparams=False
    )


@pytest.mark.feature("LB-12")
def test_record_tells_everything_of_every_item():
    class Big:
        def __repr__(self):
            return "x" * 1000

    configs = Plain(model="wide")
    override(configs, {"width": 2})
    assert 20 == configs.run()
    assert {
        "name": "model", "type": "Net", "value": "wide", "as_text": False,
        "option": "wide", "options": ["small", "wide"], "order": 1, "source": "set",
        "explicit": True, "hyperparam": False, "meta": False, "used": True, "needs": ["width"],
    } == {k: v for k, v in _record(configs, "model").items() if k != "computed"}  # fmt: skip
    assert "Net object" in _record(configs, "model")["computed"]
    assert ("override", 0, True, 2) == tuple(
        _record(configs, "width")[key] for key in ("source", "order", "hyperparam", "value")
    )
    assert (False, None, 10) == tuple(
        _record(configs, "epochs")[key] for key in ("used", "order", "value")
    )
    long = Plain(model=Big())
    assert 500 == len((long.model, _record(long, "model")["computed"])[1])


@pytest.mark.feature("LB-13")
def test_plain_dictionary_is_recorded_as_set_by_hand():
    records = items_record({"rate": 0.1, "model": {"width": 3, "layers": [1, 2]}, "net": Net(1)})
    assert {"rate": 0.1, "model.width": 3, "model.layers": [1, 2]} == {
        record["name"]: record["value"] for record in records if not record["as_text"]
    }
    assert all(record["explicit"] and record["used"] for record in records)
    assert {"a": {}, "b.c": 1} == flat({"a": {}, "b": {"c": 1}})


def _record(configs, name):
    return next(record for record in items_record(configs) if record["name"] == name)
