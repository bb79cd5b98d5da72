"""The loop of a stage on a tiny real network and real feeds."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError, Interrupted, RunError
from discern.base.seeds import derive_seed
from discern.compute.device import seed_everything
from discern.data.head_spec import HeadSpec
from discern.data.images import Preprocess
from discern.feed.augment import SmallImageAugment
from discern.feed.batch import FeedOptions
from discern.feed.resident import ResidentFeed
from discern.feed.side_heads import side_labels
from discern.models.catalogue import ModelRequest, build_model
from discern.models.classifier import train_mode
from discern.models.ema import ModelEma
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.callbacks import HOOKS, Callback, CallbackList, Progress, Signal
from discern.training.checkpoints import CheckpointStore
from discern.training.evaluate import evaluate
from discern.training.head_objectives import HeadWish, TrainingHead, head_objectives
from discern.training.metric_table import open_metric
from discern.training.monitor import open_monitor
from discern.training.objectives import build_objective, cross_entropy, learned_parts
from discern.training.stage_length import StageLength
from discern.training.state_io import capture_state
from discern.training.step import StepRules, TrainState, train_step
from discern.training.stock.early_stop import EarlyStop
from discern.training.trainer import Session, StagePlan, Trainer

CPU = torch.device("cpu")
PREPROCESS = Preprocess(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,))
CLASSES = ("left", "right")


class Notes:
    """A recorder that keeps what it is told."""

    def __init__(self):
        self.points, self.warnings, self.rewound, self.said = [], [], [], []

    def record(self, step, readings):
        self.points.append((step, {k: v for k, v in readings.items() if not k.startswith("time/")}))

    def flush(self):
        pass

    def rewind(self, step):
        self.rewound.append(step)
        self.points = [point for point in self.points if point[0] <= step]

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warnings.append(text)


def images(count, seed):
    """Grey images with a bright half: the class says which."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, count)
    pixels = generator.integers(0, 120, (count, 8, 8, 1)).astype(np.uint8)
    for image, target in zip(pixels, targets, strict=True):
        image[:, 4 * target : 4 * target + 4] += 100
    return pixels, targets


def feed_of(count, seed, *, training, batch_size=16):
    pixels, targets = images(count, seed)
    augment = SmallImageAugment(pad=1, flip=False) if training else None
    options = FeedOptions(batch_size=batch_size, training=training, seed=3, augment=augment)
    return ResidentFeed(pixels, targets, np.arange(count), PREPROCESS, options)


def stage(tmp_path, callbacks=(), *, epochs=3, lr=0.05, ema=None, opt="sgd", model="lenet", **plan):
    seed_everything(derive_seed(0, "test"))
    built = build_model(
        ModelRequest(name=model, num_classes=2, channels=1, image_size=(8, 8))
        if model == "mlp"
        else ModelRequest(name="fast_net", num_classes=2, channels=1, image_size=(8, 8),
                          arguments={"width": 4})
    ).model  # fmt: skip
    feed, val = feed_of(100, 0, training=True), feed_of(37, 1, training=False)
    rules = StepRules(objective=cross_entropy(0.1), device=CPU, **plan.pop("rules", {}))
    whole = StagePlan(
        name="train", index=0, length=plan.pop("length", StageLength(7, 7 * epochs)), feed=feed,
        val_feed=val, classes=CLASSES, rules=rules,
        **{"log_every": 3, **plan},
    )  # fmt: skip
    optimizer = build_optimizer(opt, built.named_parameters(), lr=lr)
    schedule = Schedule("cosine", {}, epochs * feed.batches, feed.batches)
    state = TrainState(
        model=built, network=built, optimizer=optimizer, schedule=schedule,
        ema=None if ema is None else ModelEma(built, ema), scaler=None,
    )  # fmt: skip
    notes = Notes()
    session = Session(
        store=CheckpointStore(tmp_path / "checkpoints", warn=notes.warn),
        callbacks=CallbackList(list(callbacks)),
        recorder=notes,
    )
    return Trainer(whole, state, session, lambda: train_mode(built)), state, session, notes


def tensors_of(state):
    groups, values = capture_state(state)
    return {f"{g}.{n}": t for g, group in groups.items() for n, t in group.items()}, values


class Spy(Callback):
    """Overrides every hook and keeps their order."""

    def __init__(self):
        self.calls = []


for _hook in HOOKS:
    setattr(Spy, _hook, lambda self, progress, _hook=_hook: self.calls.append(_hook))


def test_hooks_come_in_their_order(tmp_path):
    spy = Spy()
    trainer, *_ = stage(tmp_path, [spy], epochs=1, log_every=5)
    trainer.run_stage()
    step = ["before_step", "after_step"]
    expected = ["before_stage", "before_epoch", *step * 5, "reading", *step * 2, "reading",
                "before_evaluation", "after_evaluation", "after_epoch", "after_stage"]  # fmt: skip
    assert expected == spy.calls


def test_hooks_nobody_overrides_are_not_called():
    class Quiet(Callback):
        def after_epoch(self, progress):
            return Signal.SAVE

    calls = CallbackList([Quiet()])
    assert ["after_epoch"] == [hook for hook in HOOKS if calls.listens(hook)]
    assert Signal.SAVE == calls.call("after_epoch", None)


def test_a_hook_that_answers_with_no_signal_is_told():
    class Says(Callback):
        def after_epoch(self, progress):
            return "stop"

    with pytest.raises(ConfigError, match=r"Says\.after_epoch\n  got: +'stop'"):
        CallbackList([Says()]).call("after_epoch", Progress())


def test_training_learns_and_evaluates_every_image(tmp_path):
    trainer, state, session, _ = stage(tmp_path, epochs=6)
    trainer.run_stage()
    table = evaluate(state.model, trainer.plan.val_feed, classes=CLASSES, device=CPU)
    assert list(range(37)) == sorted(table.positions.tolist())
    assert session.ledger.ranked("accuracy")[0].accuracy > 0.9
    assert 6 * 7 == state.step
    assert 600 == state.samples


class StopAt(Callback):
    def __init__(self, stop, step):
        self.stop, self.at = stop, step

    def after_step(self, progress):
        self.stop.requested = self.stop.requested or progress.step == self.at


@pytest.mark.feature("MX-16")
@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("opt", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("cut", [1, 4, 7, 8, 17])
def test_resume_at_any_step_gives_the_same_bits(tmp_path, cut, opt, ema):
    whole, state, _, notes = stage(tmp_path / "whole", opt=opt, ema=ema)
    whole.run_stage()

    first, _, session, kept = stage(tmp_path / "cut", opt=opt, ema=ema)
    session.callbacks = CallbackList([StopAt(session.stop, cut)])
    with pytest.raises(Interrupted):
        first.run_stage()
    second, again, session, more = stage(tmp_path / "cut", opt=opt, ema=ema)
    torch.manual_seed(99)  # a new process starts with other random states
    checkpoint = session.store.latest()
    second.run_stage(checkpoint)

    expected, values = tensors_of(state)
    got, got_values = tensors_of(again)
    assert expected.keys() == got.keys()
    assert [] == [name for name in expected if not torch.equal(expected[name], got[name])]
    assert values == got_values
    seen = [point for point in kept.points if point[0] <= checkpoint.step] + more.points
    assert notes.points == seen


def test_early_stop_ends_the_stage_and_survives_a_resume(tmp_path):
    frozen = {"epochs": 30, "lr": 1e-30, "model": "mlp"}  # nothing is learned: no epoch is better
    trainer, state, session, notes = stage(tmp_path, [EarlyStop(2)], **frozen)
    trainer.run_stage()
    assert 3 * 7 == state.step
    best = session.ledger.ranked(trainer.plan.monitor)[0].accuracy
    reason = f"no better accuracy in 2 evaluations, {best:.4f} was the best"
    assert [f"ended    stage train at step 21 by EarlyStop: {reason}"] == notes.said
    resumed, again, session, notes = stage(tmp_path, [EarlyStop(2)], **frozen)
    resumed.run_stage(session.store.latest())
    assert 3 * 7 == again.step
    assert [] == notes.said


def test_accumulation_gives_the_gradients_of_the_whole_batch():
    pixels, targets = images(24, 5)
    options = FeedOptions(batch_size=24)
    batch = next(ResidentFeed(pixels, targets, np.arange(24), PREPROCESS, options).epoch(0))
    updated = []
    for steps in (1, 4):
        seed_everything(1)
        model = build_model(
            ModelRequest(name="mlp", num_classes=2, channels=1, image_size=(8, 8))
        ).model.double()
        optimizer = build_optimizer("sgd", model.named_parameters(), lr=0.1)
        state = TrainState(model, model, optimizer, Schedule("constant", {}, 1, 1), None, None)
        rules = StepRules(objective=_double_loss, device=CPU, grad_accum_steps=steps)
        train_step(state, batch._replace(images=batch.images.double()), rules)
        updated.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(updated[0], updated[1], rtol=1e-10, atol=0)


def _double_loss(output, targets):
    return torch.nn.functional.cross_entropy(output.logits, targets)


def poisoned(trainer, steps):
    """The plan with an objective that gives NaN in the given steps."""
    good = trainer.plan.rules.objective
    count = iter(range(10**9))

    def objective(output, targets):
        loss = good(output, targets)
        return loss * math.nan if next(count) in steps else loss

    rules = dataclasses.replace(trainer.plan.rules, objective=objective)
    trainer.plan = dataclasses.replace(trainer.plan, rules=rules)


def test_a_non_finite_step_leaves_the_weights_untouched_and_is_told(tmp_path):
    trainer, state, _, notes = stage(tmp_path, epochs=1, model="mlp")
    poisoned(trainer, {1})
    before = []
    trainer.session.callbacks = CallbackList([_Weights(state, before)])
    trainer.run_stage()
    assert torch.equal(before[0], before[1])
    assert not torch.equal(before[1], before[2])
    assert any("1 of 3 step(s)" in text for text in notes.warnings)


class _Weights(Callback):
    def __init__(self, state, kept):
        self.state_of, self.kept = state, kept

    def after_step(self, progress):
        parameters = self.state_of.model.parameters()
        self.kept.append(torch.cat([p.detach().flatten().clone() for p in parameters]))


def test_a_loss_that_never_becomes_finite_fails_and_keeps_the_last_checkpoint(tmp_path):
    trainer, _, session, notes = stage(tmp_path, epochs=3)
    poisoned(trainer, set(range(7, 10**6)))
    with pytest.raises(RunError, match="does not stay finite"):
        trainer.run_stage()
    assert 7 == session.store.latest().step
    assert [7, 7, 7] == notes.rewound


def test_a_bad_stretch_is_rolled_back_at_half_the_rate(tmp_path):
    trainer, state, session, notes = stage(tmp_path, epochs=2)
    poisoned(trainer, {7, 8, 9})
    trainer.run_stage()
    assert 0.5 == state.rate_scale
    assert 14 == state.step
    assert 1 == session.rollbacks
    assert any("back to step 7" in text for text in notes.warnings)


def test_top_checkpoints_by_score_are_kept(tmp_path):
    trainer, _, session, _ = stage(tmp_path, epochs=8, keep_top=2)
    trainer.run_stage()
    best = {entry.step for entry in session.ledger.ranked("accuracy")[:2]}
    assert best | {49, 56} == set(session.store.steps())


def test_callbacks_read_the_kept_checkpoints_best_first(tmp_path):
    class Watch(Callback):
        def __init__(self):
            self.seen = []

        def before_stage(self, progress):
            self.seen.append([entry.step for entry in progress.top])

        def after_stage(self, progress):
            self.seen.append([entry.step for entry in progress.top])

    watch = Watch()
    trainer, _, session, _ = stage(tmp_path, [watch], epochs=5, keep_top=2)
    trainer.run_stage()
    ranked = [entry.step for entry in session.ledger.ranked(trainer.plan.monitor)]
    assert 5 == len(ranked)
    assert [[], ranked[:2]] == watch.seen
    kept = {path.name for path in tmp_path.rglob("step-*")}
    assert {f"step-{step}" for step in ranked[:2]} <= kept


def test_length_in_steps_ends_inside_an_epoch_and_is_evaluated_there(tmp_path):
    trainer, state, session, _ = stage(tmp_path, length=StageLength(7, 10))
    trainer.run_stage()
    assert (10, 10) == (state.step, session.progress.stage_steps)
    assert [7, 10] == [entry.step for entry in session.ledger.entries]
    place = session.store.latest().state
    assert ("epochs", 1, 3) == (place["ended"], place["epoch"], place["batch"])


def test_longer_stage_goes_on_inside_the_epoch_as_if_it_had_not_ended(tmp_path):
    """With a constant rate, 10 steps and then 15 are the same training as 15."""

    def run(folder, steps, checkpoint=None):
        trainer, state, session, _ = stage(folder, length=StageLength(7, steps))
        object.__setattr__(state, "schedule", Schedule("constant", {}, steps, 7))
        trainer.run_stage(checkpoint)
        return state, session

    whole, _ = run(tmp_path / "whole", 15)
    _, session = run(tmp_path / "parts", 10)
    grown, _ = run(tmp_path / "parts", 15, session.store.latest())
    expected, got = tensors_of(whole)[0], tensors_of(grown)[0]
    assert all(expected[name].equal(got[name]) for name in expected)


class _StopAt(Callback):
    def __init__(self, session_of, step):
        self.session_of, self.step = session_of, step

    def after_step(self, progress):
        if progress.step == self.step:
            self.session_of().stop.requested = True


def test_stage_of_some_seconds_stores_its_time_and_goes_on_with_the_rest(tmp_path):
    held = []
    trainer, state, session, _ = stage(
        tmp_path, [_StopAt(lambda: held[0], 5)], length=StageLength(7, None, 3600.0)
    )
    held.append(session)
    with pytest.raises(Interrupted):
        trainer.run_stage()
    checkpoint = session.store.latest()
    spent = checkpoint.state["stage_seconds"]
    assert 0.0 < spent < 3600.0

    nearly = dataclasses.replace(checkpoint, state={**checkpoint.state, "stage_seconds": 3599.7})
    trainer, state, session, _ = stage(tmp_path, length=StageLength(7, None, 3600.0))
    trainer.run_stage(nearly)
    assert state.step > 5
    end = session.store.latest().state
    assert end["stage_seconds"] >= 3600.0
    assert "epochs" == end["ended"]
    assert math.ceil(state.step / 7) == session.progress.epochs


@pytest.mark.feature("CA-40")
def test_early_stop_counts_gains_above_its_least_and_knows_the_way_of_a_figure():
    progress = Progress()
    stop = EarlyStop(2, "log_loss", min_delta=0.1)
    answers = []
    for value in (1.0, 0.95, 0.85, 0.84, 0.83):
        progress.readings = {"val/log_loss": value}
        answers.append(stop.after_evaluation(progress))
    assert [None, None, None, None, Signal.END_STAGE] == answers
    assert {"best": -0.85, "waited": 2} == stop.state()


def test_second_stage_gone_bad_in_its_first_epoch_returns_to_its_own_beginning(tmp_path):
    """The first stage ended at that step, so its checkpoint has the name."""
    first, _, session, notes = stage(tmp_path, epochs=1)
    first.run_stage()
    second, state, _, _ = stage(tmp_path, epochs=2, opt="adamw")
    second.plan = dataclasses.replace(second.plan, name="second", index=1)
    second.session = session
    state.step = 7
    beginning = {name: value.clone() for name, value in state.model.named_parameters()}
    poisoned(second, set(range(10**6)))
    with pytest.raises(RunError, match="does not stay finite"):
        second.run_stage()
    assert [7, 7, 7] == notes.rewound
    assert all(value.equal(beginning[name]) for name, value in state.model.named_parameters())


@pytest.mark.feature("CA-42")
def test_record_beside_the_checkpoints_tells_best_last_top_and_every_epoch(tmp_path):
    trainer, *_ = stage(tmp_path, epochs=6, keep_top=2)
    trainer.plan = dataclasses.replace(
        trainer.plan, monitor=open_monitor("brier"), metrics=(open_metric("brier"),)
    )
    trainer.run_stage()
    record = json.loads((tmp_path / "checkpoints" / "metrics.json").read_text())
    assert ("brier", "min") == (record["monitor"], record["mode"])
    every = {entry["step"]: entry["brier"] for entry in record["epochs"]}
    assert [7, 14, 21, 28, 35, 42] == list(every)
    ranked = sorted(every, key=every.get)
    assert ranked[:2] == [entry["step"] for entry in record["top"]]
    assert (ranked[0], "step-42") == (record["best"]["step"], record["last"])
    on_disk = {path.name for path in tmp_path.rglob("step-*")}
    assert on_disk == set(record["kept"])
    assert on_disk == {e["checkpoint"] for e in record["epochs"] if e["checkpoint"] is not None}


def learning_more(tmp_path, form):
    """A stage whose objective has weights of its own, or whose feed makes labels of its images."""
    trainer, state, session, notes = stage(tmp_path, epochs=2, opt="adamw", model="mlp")
    model, rules = state.model, trainer.plan.rules
    if form == "arcface":
        objective = build_objective(
            "arcface", {"scale": 8.0}, class_counts=None, kind="single", num_classes=2,
            feature_dim=model.feature_width,
        )  # fmt: skip
        learned = learned_parts(objective)
        state.learned = learned
        state.parameters += learned.parameters()
        named = [*model.named_parameters(), *learned.named_parameters()]
        state.optimizer = build_optimizer("adamw", named, lr=0.05)
        trainer.plan = dataclasses.replace(
            trainer.plan, rules=dataclasses.replace(rules, objective=objective)
        )
        return trainer, state, session, notes
    main = HeadSpec("label", "single", CLASSES)
    side, specs = side_labels(("rotation", "blur"), [main], PREPROCESS)
    heads = (main, *specs)
    seed_everything(1)
    widths = {head.name: head.width for head in heads}
    model = build_model(
        ModelRequest(name="mlp", num_classes=sum(widths.values()), channels=1, image_size=(8, 8),
                     heads=widths)
    ).model  # fmt: skip
    objective, tally = head_objectives(
        [TrainingHead.made(spec, missing=False) for spec in heads], HeadWish(), {}
    )
    pixels, targets = images(100, 0)
    options = FeedOptions(batch_size=16, training=True, seed=3, side=side)
    feed = ResidentFeed(pixels, {"label": targets}, np.arange(100), PREPROCESS, options)
    plan = dataclasses.replace(
        trainer.plan, feed=feed, heads=(main,),
        rules=StepRules(objective=objective, device=CPU, tally=tally),
    )  # fmt: skip
    state = TrainState(
        model=model, network=model, optimizer=build_optimizer("adamw", model.named_parameters(),
                                                              lr=0.01),
        schedule=Schedule("cosine", {}, 14, 7), ema=None, scaler=None,
    )  # fmt: skip
    return Trainer(plan, state, session, lambda: train_mode(model)), state, session, notes


@pytest.mark.parametrize("form", ["arcface", "side heads"])
def test_resume_of_an_objectives_weights_and_of_side_labels_gives_the_same_bits(tmp_path, form):
    whole, state, _, notes = learning_more(tmp_path / "whole", form)
    whole.run_stage()
    first, _, session, kept = learning_more(tmp_path / "cut", form)
    session.callbacks = CallbackList([StopAt(session.stop, 9)])
    with pytest.raises(Interrupted):
        first.run_stage()
    second, again, session, more = learning_more(tmp_path / "cut", form)
    torch.manual_seed(99)
    np.random.seed(99)
    checkpoint = session.store.latest()
    assert checkpoint.step == 9
    second.run_stage(checkpoint)
    expected, values = tensors_of(state)
    got, got_values = tensors_of(again)
    if form == "arcface":
        assert "objective.objective.centers" in expected
        assert expected["objective.objective.centers"].std() > 0
    assert expected.keys() == got.keys()
    assert [] == [name for name in expected if not torch.equal(expected[name], got[name])]
    assert values == got_values
    assert notes.points == [p for p in kept.points if p[0] <= 9] + more.points
