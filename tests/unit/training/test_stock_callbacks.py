"""The callbacks that come with Discern, on a tiny real training."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from discern.base.errors import ConfigError, Interrupted
from discern.base.seeds import derive_seed
from discern.compute.device import seed_everything
from discern.data.images import Preprocess
from discern.feed.augment import SmallImageAugment
from discern.feed.batch import FeedOptions
from discern.feed.resident import ResidentFeed
from discern.models.catalogue import ModelRequest, build_model
from discern.models.classifier import train_mode
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.callbacks import Callback, CallbackList, Place, Progress, Signal
from discern.training.checkpoints import CheckpointStore
from discern.training.objectives import cross_entropy
from discern.training.stage_length import StageLength
from discern.training.state_io import capture_state
from discern.training.step import StepRules, TrainState, train_step
from discern.training.stock.bottleneck import Bottleneck
from discern.training.stock.checkpoint_every import CheckpointEvery
from discern.training.stock.early_stop import EarlyStop
from discern.training.stock.grad_norms import GradNorms
from discern.training.stock.histograms import Histograms
from discern.training.stock.layer_statistics import LayerStatistics
from discern.training.stock.names import STOCK, open_callback
from discern.training.stock.profiler import Profiler
from discern.training.stock.time_limit import TimeLimit, seconds_of
from discern.training.trainer import Session, StagePlan, Trainer

CPU = torch.device("cpu")
PREPROCESS = Preprocess(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,))


class Notes:
    """A recorder that keeps what it is told."""

    def __init__(self):
        self.points, self.warnings, self.said = [], [], []

    def record(self, step, readings):
        self.points.append((step, dict(readings)))

    def flush(self):
        pass

    def rewind(self, step):
        self.points = [point for point in self.points if point[0] <= step]

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warnings.append(text)

    def series(self, name):
        return {step: readings[name] for step, readings in self.points if name in readings}


def feed_of(count, seed, *, training):
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, count)
    pixels = generator.integers(0, 120, (count, 8, 8, 1)).astype(np.uint8)
    for image, target in zip(pixels, targets, strict=True):
        image[:, 4 * target : 4 * target + 4] += 100
    augment = SmallImageAugment(pad=1, flip=False) if training else None
    options = FeedOptions(batch_size=16, training=training, seed=3, augment=augment)
    return ResidentFeed(pixels, targets, np.arange(count), PREPROCESS, options)


def stage(folder, callbacks=(), *, epochs=2, clip=None, parts=1, **plan):
    """A stage of `epochs` epochs of 7 steps over 100 images, read every 3 steps."""
    seed_everything(derive_seed(0, "test"))
    request = ModelRequest(
        name="fast_net", num_classes=2, channels=1, image_size=(8, 8), arguments={"width": 4}
    )
    model = build_model(request).model
    feed, val = feed_of(100, 0, training=True), feed_of(37, 1, training=False)
    rules = StepRules(
        objective=cross_entropy(0.1), device=CPU, clip_grad=clip, grad_accum_steps=parts
    )
    whole = StagePlan(
        name="train", index=0, length=StageLength(feed.batches, epochs * feed.batches), feed=feed,
        val_feed=val, classes=("left", "right"),
        rules=rules, **{"log_every": 3, "keep_top": 1, **plan},
    )  # fmt: skip
    state = TrainState(
        model=model, network=model,
        optimizer=build_optimizer("sgd", model.named_parameters(), lr=0.05),
        schedule=Schedule("cosine", {}, epochs * feed.batches, feed.batches),
        ema=None, scaler=None,
    )  # fmt: skip
    notes = Notes()
    session = Session(
        store=CheckpointStore(folder / "checkpoints", warn=notes.warn),
        callbacks=CallbackList(list(callbacks)),
        recorder=notes,
    )
    return Trainer(whole, state, session, lambda: train_mode(model)), state, session, notes


def weights_of(state):
    groups, _ = capture_state(state)
    return groups["model"]


def gradients_at(folder, step, *, parts=1):
    """Gradients, weights and outputs of update number `step`, by plain PyTorch hooks."""
    trainer, state, *_ = stage(folder, epochs=1, parts=parts)
    train_mode(state.model)
    outputs, gradients = {}, {}
    weights = {}
    for number, batch in enumerate(trainer.plan.feed.epoch(0), 1):
        handles = []
        if number == step:
            weights = {n: p.detach().clone() for n, p in state.model.named_parameters()}
            for name, module in state.model.named_modules():
                if not list(module.children()):
                    handles.append(
                        module.register_forward_hook(
                            lambda m, i, o, name=name: outputs.setdefault(name, []).append(
                                o.detach().clone()
                            )
                        )
                    )
            for name, parameter in state.model.named_parameters():
                handles.append(
                    parameter.register_post_accumulate_grad_hook(
                        lambda p, name=name: gradients.__setitem__(name, p.grad.clone())
                    )
                )
        train_step(state, batch, trainer.plan.rules)
        for handle in handles:
            handle.remove()
        if number == step:
            return gradients, weights, {n: torch.cat([v.flatten() for v in o])
                                        for n, o in outputs.items()}  # fmt: skip
    raise AssertionError


@pytest.mark.feature("CA-40")
def test_gradient_norms_are_those_before_clipping(tmp_path):
    gradients, _, _ = gradients_at(tmp_path / "plain", 3)
    trainer, _, session, notes = stage(tmp_path / "seen", [GradNorms()], epochs=1, clip=1e-3)
    trainer.run_stage()
    # The first two steps are clipped, so that only the first probed step of a run without rate
    # would be the same: the direct comparison is of step 1.
    assert {3, 6} <= set(notes.series("gradients/norm"))
    assert set(gradients) == {
        name.removeprefix("gradients/norm/")
        for name in session.progress.readings
        if name.startswith("gradients/norm/")
    }
    first, _, _ = gradients_at(tmp_path / "first", 1)
    trainer, _, _, notes = stage(tmp_path / "one", [GradNorms(every=1)], epochs=1, clip=1e-3)
    trainer.run_stage()
    whole = math.sqrt(sum(float(g.double().square().sum()) for g in first.values()))
    assert whole > 1e-2
    assert whole == pytest.approx(notes.series("gradients/norm")[1], rel=1e-5)


@pytest.mark.feature("LB-42")
def test_histograms_are_of_the_values_of_a_step_before_clipping(tmp_path):
    gradients, weights, _ = gradients_at(tmp_path / "plain", 2)
    seen = {}
    watcher = Histograms(every=2, match=".*bias")
    watcher.attach(Place(distribute=lambda name, step, values: seen.update({(step, name): values})))
    trainer, *_ = stage(tmp_path / "seen", [watcher], epochs=1)
    trainer.run_stage()
    names = [name for name in weights if name.endswith("bias")]
    assert names
    assert {f"{part}/{name}" for part in ("parameters", "gradients") for name in names} == {
        name for step, name in seen if step == 2
    }
    for name in names:
        assert np.array_equal(weights[name].flatten(), seen[2, f"parameters/{name}"])
        assert np.allclose(gradients[name].flatten(), seen[2, f"gradients/{name}"], rtol=1e-5)
    assert {step for step, _ in seen} == set(range(2, 1 + max(step for step, _ in seen), 2))


def test_histograms_that_nobody_takes_are_not_made():
    assert Histograms(every=2).probe() is None


@pytest.mark.feature("MX-20")
@pytest.mark.parametrize("parts", [1, 4])
def test_layer_statistics_equal_manual_hooks(tmp_path, parts):
    gradients, weights, outputs = gradients_at(tmp_path / "plain", 5, parts=parts)
    watcher = LayerStatistics(every=5, figures=["norm", "rms", "mean", "std", "max"])
    trainer, _, _, notes = stage(tmp_path / "seen", [watcher], epochs=1, parts=parts)
    trainer.run_stage()
    (seen,) = [readings for step, readings in notes.points if step == 5]
    expected = {}
    for part, tensors in (("gradients", gradients), ("weights", weights), ("outputs", outputs)):
        for name, values in tensors.items():
            values = values.double()
            expected |= {
                f"{part}/norm/{name}": float(values.norm()),
                f"{part}/rms/{name}": float(values.norm()) / math.sqrt(values.numel()),
                f"{part}/mean/{name}": float(values.mean()),
                f"{part}/std/{name}": float(values.std(correction=0)),
                f"{part}/max/{name}": float(values.abs().max()),
            }
    assert len(expected) > 50
    assert expected == pytest.approx(seen, rel=1e-4, abs=1e-6)


def test_only_layers_of_the_pattern_are_shown(tmp_path):
    watcher = LayerStatistics(every=1, match=".*bias", parts=["weights"])
    trainer, state, _, notes = stage(tmp_path, [watcher], epochs=1)
    trainer.run_stage()
    names = {n for n, _ in state.model.named_parameters() if n.endswith("bias")}
    assert names
    shown = {name for _, readings in notes.points for name in readings if "weights" in name}
    assert {f"weights/norm/{name}" for name in names} == shown


def test_looking_changes_nothing(tmp_path):
    plain, plain_state, *_ = stage(tmp_path / "a")
    plain.run_stage()
    callbacks = [GradNorms(every=1), LayerStatistics(every=2), Bottleneck(), CheckpointEvery(4)]
    seen, seen_state, *_ = stage(tmp_path / "b", callbacks)
    seen.run_stage()
    expected, got = weights_of(plain_state), weights_of(seen_state)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_recomputed_activations_count_once(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.layer, x, use_reentrant=False).sum()

    model, x = Twice(), torch.randn(3, 4, requires_grad=True)
    expected = float(model.layer(x).detach().norm())
    watcher = LayerStatistics(parts=["outputs"])
    state = type("State", (), {"model": model, "network": model, "scaler": None})()
    watcher.open(state)
    model(x).backward()
    assert expected == pytest.approx(float(watcher.look(state)["outputs/norm/layer"]))
    watcher.close()


def test_scaled_gradients_are_told_unscaled(tmp_path):
    model = nn.Linear(2, 1)
    (1024.0 * model(torch.ones(1, 2)).sum()).backward()
    scaler = type("Scaler", (), {"get_scale": lambda self: 1024.0})()
    state = type("State", (), {"model": model, "network": model, "scaler": scaler})()
    assert math.sqrt(3) == pytest.approx(float(GradNorms().look(state)["gradients/norm"]))
    seen = LayerStatistics(parts=["gradients"]).look(state)
    assert 1.0 == pytest.approx(float(seen["gradients/norm/bias"]))


def test_a_compiled_network_is_refused_for_outputs():
    model = nn.Linear(2, 1)
    state = type("State", (), {"model": model, "network": torch.compile(model), "scaler": None})()
    with pytest.raises(ConfigError, match="compiled"):
        LayerStatistics().open(state)
    LayerStatistics(parts=["weights"]).open(state)


def test_iteration_checkpoints_keep_the_last_of_them(tmp_path):
    trainer, _, session, _ = stage(tmp_path, [CheckpointEvery(steps=3, keep=2)], epochs=3)
    trainer.run_stage()
    best = session.ledger.ranked("accuracy")[0].step
    # 21 steps: the last two of 3, 6, ... 21, the two newest of all, and the best.
    assert {18, 21, best} | set(session.store.steps()[-2:]) == set(session.store.steps())


def test_epoch_checkpoints_are_kept_all(tmp_path):
    trainer, _, session, _ = stage(tmp_path, [CheckpointEvery(epochs=2, keep=None)], epochs=6)
    trainer.run_stage()
    assert {14, 28, 42} <= set(session.store.steps())


@pytest.mark.feature("CA-42")
def test_checkpoint_files_match_the_json(tmp_path):
    trainer, _, session, _ = stage(tmp_path, epochs=6, keep_top=2)
    trainer.run_stage()
    index = json.loads((tmp_path / "checkpoints" / "metrics.json").read_text())
    on_disk = {p.name for p in (tmp_path / "checkpoints").iterdir() if p.is_dir()}
    assert on_disk == set(index["kept"])
    assert "step-42" == index["last"]
    ranked = session.ledger.ranked("accuracy")
    assert [entry.step for entry in ranked[:2]] == [entry["step"] for entry in index["top"]]
    assert index["top"][0] == index["best"]
    assert {entry["checkpoint"] for entry in index["top"]} <= on_disk
    assert list(range(1, 7)) == [entry["epoch"] for entry in index["epochs"]]
    kept = {entry["checkpoint"] for entry in index["epochs"]} - {None}
    assert kept <= on_disk
    assert len(kept) < 6


def test_time_limit_texts():
    expected = {"90": 90.0, "90s": 90.0, "20m": 1200.0, "1h30m": 5400.0, "1.5h": 5400.0}
    assert expected == {text: seconds_of(text) for text in expected}
    for wrong in ("", "0", "soon", "-3m", "20m5h"):
        with pytest.raises(ConfigError, match="length of time"):
            seconds_of(wrong)


def test_time_limit_ends_the_run_and_scores_the_weights(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("discern.training.stock.time_limit.time.monotonic", lambda: now[0])

    class Tick(Callback):
        def before_step(self, progress):
            now[0] += 1.0

    trainer, state, session, notes = stage(tmp_path, [Tick(), TimeLimit(10)], epochs=5)
    signal = trainer.run_stage()
    assert Signal.END_RUN == signal
    assert ["ended    the run at step 10 by TimeLimit: the limit of 10 s is reached"] == notes.said
    assert state.step == 10
    assert 10 in notes.series("val/accuracy")
    assert 10 in session.store.steps()


def test_time_limit_counts_over_attempts():
    first = TimeLimit("1h")
    first.before_stage(Progress())
    state = {"spent_s": 3590.0}
    second = TimeLimit("1h")
    second.restore(state)
    assert second.after_step(Progress()) is None
    assert second.state()["spent_s"] == pytest.approx(3590.0, abs=1.0)
    second.restore({"spent_s": 3600.0})
    assert Signal.END_RUN == second.after_step(Progress())


def readings(progress, step, *, batch, data, decode=0.0, augment=0.0, copy=0.0):
    progress.step = step
    progress.readings = {
        "time/images_per_s": 1e3 * 10 / batch, "time/batch_ms": batch, "time/data_ms": data,
        "time/decode_ms": decode, "time/augment_ms": augment, "time/copy_ms": copy,
    }  # fmt: skip
    return progress


@pytest.mark.feature("MX-77")
def test_bottleneck_tells_the_ratio_to_free_data(tmp_path):
    said = []
    meter, progress = Bottleneck(), Progress()
    meter.attach(Place(say=said.append))
    meter.before_stage(progress)
    meter.reading(readings(progress, 10, batch=10, data=8, decode=12, augment=3, copy=1))
    meter.reading(readings(progress, 20, batch=10, data=8, decode=12, augment=3, copy=1))
    shares = meter.shares()
    assert shares["wait"] == pytest.approx(0.8)
    assert shares["decode"] == pytest.approx(0.75)
    assert shares["free_data"] == pytest.approx(5.0)
    assert meter.limit() == "decode"
    meter.after_stage(progress)
    assert "step 20%, wait 80%" in said[0]
    assert "1000 img/s, 5.00x that if data cost nothing" in said[0]
    assert "discern bench io" in said[1]
    meter.reading(readings(progress, 1000, batch=10, data=0))
    assert meter.limit() == "step"


def test_bottleneck_goes_on_where_it_was():
    progress = Progress()
    meter = Bottleneck()
    meter.before_stage(progress)
    meter.reading(readings(progress, 10, batch=10, data=1))
    progress.stage_step = 10
    other = Bottleneck()
    other.restore(json.loads(json.dumps(meter.state())))
    other.before_stage(progress)
    assert meter.shares()["wait"] == other.shares()["wait"]


def test_the_feed_counts_its_parts(tmp_path):
    trainer, _, session, _ = stage(tmp_path, epochs=1)
    trainer.run_stage()
    spent = trainer.plan.feed.spent
    assert spent.decode == 0.0
    assert spent.augment > 0.0
    assert spent.copy > 0.0
    assert spent.augment + spent.copy <= trainer.plan.feed.wait_s + 1e-9
    assert session.progress.readings["time/augment_ms"] > 0.0


@pytest.mark.feature("MX-23")
def test_trace_opens_and_names_convolutions(tmp_path):
    profiler = Profiler("3-4")
    profiler.attach(Place(folder=tmp_path))
    trainer, *_ = stage(tmp_path, [profiler], epochs=1)
    trainer.run_stage()
    trace = json.loads((tmp_path / "profile" / "rank0_steps-3-4.pt.trace.json").read_text())
    names = [str(event.get("name")) for event in trace["traceEvents"]]
    assert "aten::conv2d" in names
    assert 2 == sum("Optimizer.step" in name for name in names)
    assert "aten::" in (tmp_path / "profile" / "rank0_steps-3-4.txt").read_text()


def test_profiler_ranges():
    assert (3, 9) == (Profiler("3-9").first, Profiler("3-9").last)
    for wrong in ("9-3", "0-2", "soon", "3-"):
        with pytest.raises(ConfigError):
            Profiler(wrong)


def test_early_stop_needs_a_figure():
    with pytest.raises(ConfigError, match="'last', which is no figure"):
        EarlyStop(1, "last")


def test_early_stop_wants_more_than_min_delta():
    stop, progress = EarlyStop(1, "loss", min_delta=0.1), Progress()
    stop.before_stage(progress)
    answers = []
    for loss in (1.0, 0.8, 0.75):
        progress.readings = {"val/loss": loss}
        answers.append(stop.after_evaluation(progress))
    assert [None, None, Signal.END_STAGE] == answers


ARGUMENTS = {
    "bottleneck": {}, "checkpoint_every": {"steps": 3}, "early_stop": {"patience": 9},
    "grad_norms": {"every": 2}, "histograms": {"every": 2},
    "layer_statistics": {"every": 3, "match": "head.*"},
    "profiler": {"steps": "2-3"}, "time_limit": {"limit": "1h"},
}  # fmt: skip


@pytest.mark.feature("CA-40")
def test_every_name_opens_and_its_state_is_json():
    assert set(STOCK) == set(ARGUMENTS)
    for name, arguments in ARGUMENTS.items():
        callback = open_callback(name, arguments, where="test")
        state = json.loads(json.dumps(callback.state()))
        callback.restore(state)
        assert set(state) == set(callback.state())
    assert isinstance(
        open_callback("IterationCheckpoint", {"steps": 1}, where="t"), CheckpointEvery
    )


def test_unknown_names_and_arguments_are_refused():
    with pytest.raises(ConfigError, match="grad_norms"):
        open_callback("grad_norm", {}, where="tracking.callbacks.0")
    with pytest.raises(ConfigError, match="every"):
        open_callback("grad_norms", {"evry": 3}, where="tracking.callbacks.0")
    with pytest.raises(ConfigError, match="not a callback"):
        open_callback("argparse:Namespace", {}, where="tracking.callbacks.0")


def test_a_stopped_training_with_all_of_them_goes_on_exactly(tmp_path):
    def callbacks():
        return [open_callback(name, ARGUMENTS[name], where="test") for name in sorted(STOCK)]

    whole, whole_state, _, whole_notes = stage(tmp_path / "whole", callbacks(), epochs=3)
    whole.run_stage()

    class Stop(Callback):
        def after_step(self, progress):
            if progress.step == 10:
                session.stop.requested = True

    trainer, _, session, first_notes = stage(tmp_path / "cut", [Stop(), *callbacks()], epochs=3)
    with pytest.raises(Interrupted):
        trainer.run_stage()
    trainer, state, session, notes = stage(tmp_path / "cut", callbacks(), epochs=3)
    trainer.run_stage(session.store.latest())
    expected, got = weights_of(whole_state), weights_of(state)
    assert all(torch.equal(expected[name], got[name]) for name in expected)

    def figures(*all_notes):
        return {
            (step, name): value
            for one in all_notes
            for step, point in one.points
            for name, value in point.items()
            if not name.startswith("time/")
        }

    assert figures(whole_notes) == figures(first_notes, notes)
