"""Steps, readings, evaluations and agreements of several ranks, beside one process's."""

import dataclasses
import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forked_ranks import on_ranks

from discern.base.errors import RunError
from discern.compute.device import seed_everything
from discern.compute.world import World
from discern.config.schema import RunConfig, StageConfig
from discern.data.head_spec import HeadSpec
from discern.data.images import Preprocess
from discern.data.manifest import Head
from discern.feed.batch import Batch, FeedOptions, HeadTargets
from discern.feed.resident import ResidentFeed
from discern.models.catalogue import ModelRequest, build_model
from discern.models.classifier import train_mode, wrap_network
from discern.models.ema import ModelEma
from discern.models.named_heads import with_heads
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.accord import Accord, StopRequest
from discern.training.callbacks import Signal
from discern.training.evaluate import evaluate
from discern.training.head_objectives import (
    HeadWish,
    TrainingHead,
    head_objectives,
)
from discern.training.material import FeedSettings, Material
from discern.training.meters import Meters
from discern.training.objectives import cross_entropy, learned_parts
from discern.training.rank_states import share_buffers
from discern.training.shared_gradients import SharedGradients
from discern.training.stages import step_rules
from discern.training.step import StepRules, TrainState, train_step
from discern.training.uneven_labels import counts_unevenly

CPU = torch.device("cpu")
PREPROCESS = Preprocess(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,))


def pixels_of(count):
    generator = np.random.default_rng(0)
    return (
        generator.integers(0, 256, (count, 8, 8, 1)).astype(np.uint8),
        generator.integers(0, 5, count),
    )


def train(world, *, images=101, batch_size=34, steps=9, model="mlp", opt="adamw", accumulate=1,
          ema=False, clip=None, guard=True, spoil=None):  # fmt: skip
    """Some updates; gives (state, readings, means of each step's loss)."""
    pixels, targets = pixels_of(images)
    options = FeedOptions(
        batch_size=batch_size, training=True, seed=3, rank=world.rank, ranks=world.ranks
    )
    feed = ResidentFeed(pixels, targets, np.arange(images), PREPROCESS, options)
    seed_everything(0)
    arguments = {"width": 4} if model == "fast_net" else {}
    network = build_model(
        ModelRequest(name=model, num_classes=5, channels=1, image_size=(8, 8), arguments=arguments)
    ).model
    shared = None if world.alone else SharedGradients(world, batch_size / world.ranks)
    rules = StepRules(
        objective=cross_entropy(0.1), device=CPU, grad_accum_steps=accumulate, shared=shared,
        clip_grad=clip, guard=guard,
    )  # fmt: skip
    optimizer = build_optimizer(opt, network.named_parameters(), lr=0.01)
    schedule = Schedule("cosine", {}, 100, feed.batches)
    state = TrainState(
        network, network, optimizer, schedule, ModelEma(network, 0.9) if ema else None, None
    )
    meters, losses, epoch = Meters(CPU, world), [], 0
    train_mode(network)
    while state.step < steps:
        for batch in feed.epoch(epoch):
            if spoil == (state.step, world.rank):
                batch.images[0, 0, 0, 0] = float("nan")
            result = train_step(state, batch, rules)
            meters.update(result)
            losses.append(result.loss.item())
        epoch += 1
    return state, meters.read(), losses


def hash_of(tensors):
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def parameters_of(state):
    return {name: p.detach().numpy() for name, p in state.model.named_parameters()}


def outcome(world, settings):
    state, readings, losses = train(world, **settings)
    averages = {} if state.ema is None else dict(state.ema.model.named_parameters())
    hashes = hash_of(
        {**dict(state.model.named_parameters()), **{f"a.{n}": p for n, p in averages.items()}}
    )
    return hashes, parameters_of(state), readings, losses, state.samples


@pytest.mark.feature("MX-06")
@pytest.mark.feature("LA-25")
@pytest.mark.parametrize("ranks", [2, 3])
def test_uneven_parts_train_as_one_batch_does(ranks):
    """101 images in batches of 33 and 34: parts of 17 and 16, or 12, 11 and 11."""
    _, alone, readings, losses, samples = outcome(World(), {"opt": "sgd"})
    found = on_ranks(outcome, {"opt": "sgd"}, ranks=ranks)
    assert 1 == len({one[0] for one in found})
    for _, weights, read, means, seen in found:
        assert samples == seen == 303
        np.testing.assert_allclose(losses, means, rtol=2e-6)
        assert readings["accuracy"] == read["accuracy"]
        assert readings["images"] == read["images"] == 303
        np.testing.assert_allclose(readings["loss"], read["loss"], rtol=2e-6)
        for name, expected in alone.items():
            np.testing.assert_allclose(expected, weights[name], rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"opt": "muon", "model": "fast_net", "ema": True},
        {"opt": "adamw", "clip": 0.5, "accumulate": 3, "ema": True},
        {"opt": "lookahead"},
        {"opt": "lamb", "clip": 0.1},
    ],
    ids=lambda settings: settings["opt"],
)
def test_weights_and_averages_stay_the_same_on_all_ranks(settings):
    hashes = {found[0] for found in on_ranks(outcome, settings)}
    assert 1 == len(hashes)


def test_accumulation_asks_the_others_once_an_update():
    def count(world):
        calls = []
        plain = World.sum_
        World.sum_ = lambda self, tensor: (calls.append(1), plain(self, tensor))[1]
        train(world, accumulate=4, steps=3)
        return len(calls)

    assert [3, 3] == on_ranks(count)


def test_a_bad_image_on_one_rank_leaves_the_step_out_on_all():
    def spoiled(world):
        state, readings, losses = train(world, steps=3, spoil=(1, 1))
        return (
            hash_of(state.model.state_dict()),
            readings["nonfinite_steps"],
            np.isfinite(losses).tolist(),
        )

    first, second = on_ranks(spoiled)
    assert first == second
    assert (1.0, [True, False, True]) == first[1:]


def test_a_gradient_that_comes_later_is_refused():
    def late(world):
        layers = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
        shared = SharedGradients(world, 1.0)
        (layers[0] * 2).sum().backward()
        shared.average_(layers, torch.tensor(1.0), 1)
        (layers[1] * 2).sum().backward()
        with pytest.raises(RunError, match="none in the first step"):
            shared.average_(layers, torch.tensor(1.0), 1)
        return True

    assert [True, True] == on_ranks(late)


@pytest.mark.feature("MX-25")
@pytest.mark.parametrize("count", [1, 63, 64, 101, 200])
def test_an_evaluation_counts_every_image_once_on_any_number_of_ranks(count):
    """The table of 1, 2 and 3 ranks is the same to the last bit."""

    def table(world):

        pixels, targets = pixels_of(count)
        settings = FeedSettings(
            device=CPU, workers=0, seed=0, flip=False, rank=world.rank, ranks=world.ranks
        )

        class Images(Material):
            def __init__(self):
                self.settings, self.preprocess, self.resident = settings, PREPROCESS, True
                self._pixels = {"test": pixels}
                head = Head("label", "single", tuple("abcde"), targets)
                self.manifest = type("Labels", (), {"heads": (head,)})
                self.heads = (head.spec,)

            def positions(self, split):
                return np.arange(count)

        seed_everything(0)
        model = build_model(
            ModelRequest(name="mlp", num_classes=5, channels=1, image_size=(8, 8))
        ).model
        with Images().evaluation_feed("test", 64) as feed:
            found = evaluate(model, feed, classes=tuple("abcde"), device=CPU, world=world)
        columns = ("positions", "targets", "top_classes", "top_probabilities", "losses", "logits")
        return [getattr(found, name) for name in columns]

    expected = table(World())
    assert count == len(expected[0])
    for ranks in (2, 3):
        for found in on_ranks(table, ranks=ranks):
            for one, other in zip(expected, found, strict=True):
                assert one.dtype == other.dtype
                assert one.tobytes() == other.tobytes()


def test_running_statistics_are_rank_0s_on_all_ranks():
    def statistics(world):
        state, *_ = train(world, model="fast_net", steps=3)
        before = hash_of(dict(state.model.named_buffers()))
        share_buffers(world, state.model, None)
        return before, hash_of(dict(state.model.named_buffers()))

    (first, shared_first), (second, shared_second) = on_ranks(statistics)
    assert first != second
    assert first == shared_first == shared_second


def test_the_ranks_agree_one_step_late():
    def agree(world):
        asked, stop = StopRequest(), StopRequest()
        accord = Accord(world, asked, stop)
        accord.begin()
        seen = []
        for step in range(5):
            wish = Signal.SAVE if world.leads and step == 1 else Signal.GO_ON
            asked.requested |= world.rank == 1 and step == 3
            seen.append((int(accord.settle(wish)), stop.requested))
        seen.append(int(accord.conclude(Signal.END_STAGE if world.rank == 1 else Signal.GO_ON)))
        accord.settle(Signal.ROLLBACK)
        accord.begin()
        return [*seen, int(accord.settle(Signal.GO_ON)), accord.now() > 0.0]

    expected = [(0, False), (0, False), (1, False), (0, False), (0, True), 2, 0, True]
    assert [expected, expected] == on_ranks(agree)


UNEVEN = [
    ("single", "cross_entropy", {}),
    ("single", "cross_entropy", {"class_weights": [1.0, 5.0, 2.0], "smoothing": 0.1}),
    ("single", "bce", {"sum_classes": True}),
    ("single", "arcface", {"scale": 8.0}),
    ("multi", "bce", {}),
    ("multi", "focal", {}),
    ("several", "cross_entropy", {"class_weights": [1.0, 5.0, 2.0]}),
]


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize(("form", "name", "arguments"), UNEVEN)
def test_labels_missing_on_one_rank_and_class_weights_count_as_in_one_process(
    form, name, arguments, passes
):
    """Gradients in float64 of 33 images on ranks of 16 and 17; the first has hardly a label."""
    _, expected, loss, parts = uneven_step(World(), form, name, arguments, passes)
    found = on_ranks(uneven_step, form, name, arguments, passes)
    for uneven, gradients, mean, read in found:
        assert uneven
        assert mean == pytest.approx(loss, rel=1e-6)
        assert read == pytest.approx(parts, rel=1e-5)
        assert gradients.keys() == expected.keys()
        for parameter, value in expected.items():
            np.testing.assert_allclose(gradients[parameter], value, rtol=1e-9, atol=1e-12)


def uneven_step(world, form, name, arguments, passes):
    """(labels count unevenly, gradients of one step, its loss, the tally's readings)."""
    torch.manual_seed(0)
    rows = slice(33 * world.rank // world.ranks, 33 * (world.rank + 1) // world.ranks)
    images, classes = torch.randn(33, 3, 2, 2, dtype=torch.float64), torch.randint(0, 3, (33,))
    classes[:14] = -1
    tags = (torch.rand(33, 2) < 0.5).double()
    tags[5:30, 1] = torch.nan
    tags[20:26] = torch.nan
    heads = {
        "label": TrainingHead(HeadSpec("label", "single", ("a", "b", "c")), np.ones(3), True),
        "tags": TrainingHead(HeadSpec("tags", "multi", ("x", "y")), np.ones(2), False, True),
    }
    targets = {"label": classes, "tags": tags}
    names = {"single": ["label"], "multi": ["tags"], "several": ["label", "tags"]}[form]
    wishes = {names[0]: HeadWish(objective=name, args=arguments, weight=1.0)}
    objective, tally = head_objectives(
        [heads[head] for head in names], HeadWish(), wishes, feature_width=3
    )
    uneven = counts_unevenly([heads[head] for head in names], objective, [*wishes.values()])
    widths = {head: heads[head].spec.width for head in names}
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, sum(widths.values())))
    model = wrap_network(network.double(), images[:2])
    model = with_heads(model, widths if form == "several" else None).double()
    learned = learned_parts(objective).double()
    own = {head: targets[head][rows] for head in names}
    batch = Batch(
        images[rows], HeadTargets(own) if form == "several" else own[names[0]], torch.arange(33), 33
    )
    parameters = [*model.named_parameters(), *learned.named_parameters()]
    optimizer = torch.optim.SGD([p for _, p in parameters], lr=0.0)
    for group in optimizer.param_groups:
        group["initial_lr"] = 0.0
    kept = {}
    optimizer.register_step_pre_hook(
        lambda *_: kept.update(
            {n: p.grad.numpy().copy() for n, p in parameters if p.grad is not None}
        )
    )
    shared = None if world.alone else SharedGradients(world, 16.5, by_labels=uneven)
    state = TrainState(
        model, model, optimizer, Schedule("constant", {}, 1, 1), None, None,
        learned=learned if len(learned) else None,
    )  # fmt: skip
    rules = StepRules(
        objective=objective, device=CPU, grad_accum_steps=passes, tally=tally, shared=shared
    )
    result = train_step(state, batch, rules)
    meters = Meters(CPU, world, tally)
    meters.update(result)
    return uneven, kept, result.loss.item(), meters.read()


def test_only_what_counts_unevenly_asks_for_the_others_labels():
    plain = TrainingHead(HeadSpec("label", "single", ("a", "b")), np.ones(2), missing=False)
    term = {"name": "cross_entropy", "args": {"class_weights": "balanced"}}
    for missing, arguments, expected in (
        (False, {}, False),
        (False, {"smoothing": 0.1, "class_weights": None}, False),
        (True, {}, True),
        (False, {"class_weights": [1.0, 2.0]}, True),
        (False, {"terms": [term]}, True),
    ):
        head = dataclasses.replace(plain, missing=missing)
        assert expected == counts_unevenly([head], cross_entropy(), [HeadWish(args=arguments)])


def test_an_objectives_own_weights_begin_alike_on_all_ranks():
    """Each rank is seeded for dropout of its own before the objective is made."""

    def centers(world):
        torch.manual_seed(world.rank)
        head = TrainingHead(HeadSpec("label", "single", ("a", "b")), np.ones(2), missing=False)
        training = SimpleNamespace(
            material=SimpleNamespace(training_heads=lambda: [head]), device=CPU, world=world,
            model=SimpleNamespace(feature_width=4), precision="fp32",
            config=RunConfig.model_validate({"data": {"source": "digits"}}),
        )  # fmt: skip
        stage = StageConfig.model_validate({"objective": "arcface"})
        return hash_of(learned_parts(step_rules(training, stage).objective).state_dict())

    first, second = on_ranks(centers)
    assert first == second
