"""Training images a second on synthetic images: Discern's step beside timm's train.py loop.

Both train the same timm network with the same weights, rule (SGD with momentum), batch and flags;
rounds alternate. The peer's loop is written as timm's `train.py` runs one update: forward and loss
under autocast, `optimizer.zero_grad()`, backward, `optimizer.step()`, with torch's own choice of
kernels for the optimizer, as there. It waits for the GPU at the end of a round only: older versions
of that script do so at each update (`--synchronized`). Ours is `train_step` with its finite guard
and the optimizer that a training builds. Both choose the fastest convolutions, as both do by their
own switches. First steps (warm-up and compile) are told apart. Before the clock counts, both must
give the same first loss.

    python -m benchmarks.gpu_resnet50                       # resnet50, batch 256, on a GPU
    python -m benchmarks.gpu_resnet50 --model resnet18 --side 32 --batch 8 --steps 2 --rounds 1
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import time
from collections.abc import Callable

import timm
import torch

from discern.compute.device import AMP_TYPES
from discern.feed.batch import Batch
from discern.models.classifier import wrap_network
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.objectives import cross_entropy
from discern.training.step import StepRules, TrainState, train_step
from discern.workflows.training_speed import TrainingTest, synthetic_batch

GOAL = 1.0
RATE, MOMENTUM = 0.01, 0.9
# Each adds one flag to those before it.
FLAGS = ((), ("channels_last",), ("channels_last", "bf16"), ("channels_last", "bf16", "compile"))


def network(name: str, flags: tuple[str, ...], device: torch.device) -> torch.nn.Module:
    """A fresh timm network, the same weights each time."""
    torch.manual_seed(0)
    made: torch.nn.Module = timm.create_model(name, num_classes=1000).to(device)
    if "channels_last" in flags:
        made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return made.train()


Step = Callable[[], torch.Tensor]


def timm_step(
    name: str, flags: tuple[str, ...], batch: Batch, device: torch.device, *, synchronized: bool
) -> Step:
    """One update as timm's train.py does it."""
    model = network(name, flags, device)
    called = torch.compile(model) if "compile" in flags else model
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    loss_of = torch.nn.CrossEntropyLoss()
    amp = torch.autocast(device.type, torch.bfloat16) if "bf16" in flags else None

    def step() -> torch.Tensor:
        with amp or contextlib.nullcontext():
            loss = loss_of(called(batch.images), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if synchronized and device.type == "cuda":
            torch.cuda.synchronize(device)
        return loss.detach()

    return step


def our_step(name: str, flags: tuple[str, ...], batch: Batch, device: torch.device) -> Step:
    """One update as Discern's trainer does it."""
    inner = network(name, flags, device)
    model = wrap_network(inner, batch.images[:2])
    model.train()
    called = torch.compile(model) if "compile" in flags else model
    optimizer = build_optimizer(
        "sgd",
        model.named_parameters(),
        lr=RATE,
        arguments={"momentum": MOMENTUM, "nesterov": False},
    )
    state = TrainState(model, called, optimizer, Schedule("constant", {}, 1, 1), None, None)  # type: ignore[arg-type]
    amp = AMP_TYPES["bf16" if "bf16" in flags else "fp32"]
    rules = StepRules(objective=cross_entropy(), device=device, amp_dtype=amp)
    return lambda: train_step(state, batch, rules).loss


def timed(step: Step, steps: int, images: int) -> float:
    """Images a second of so many steps."""
    began = time.perf_counter()
    for _ in range(steps):
        loss = step()
    loss.item()
    return steps * images / (time.perf_counter() - began)


def compare(given: argparse.Namespace, flags: tuple[str, ...]) -> dict[str, float | str]:
    """Both loops under the same flags; raises RuntimeError if their first losses differ."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    test = TrainingTest(network=given.model, batch_size=given.batch, side=given.side)
    batch = synthetic_batch(test, device)
    if "channels_last" in flags:
        images = batch.images.contiguous(memory_format=torch.channels_last)
        batch = batch._replace(images=images)
    steps = {
        "our_step": our_step(given.model, flags, batch, device),
        "timm_step": timm_step(given.model, flags, batch, device, synchronized=given.synchronized),
    }
    firsts, losses = {}, {}
    for name, step in steps.items():
        began = time.perf_counter()
        losses[name] = step().item()
        firsts[name] = time.perf_counter() - began
    if abs(losses["our_step"] - losses["timm_step"]) > 1e-2 * abs(losses["timm_step"]):
        raise RuntimeError(f"the loops do not begin alike: {losses}")
    rounds = [
        {name: timed(step, given.steps, given.batch) for name, step in steps.items()}
        for _ in range(given.rounds)
    ]
    ratios = [one["our_step"] / one["timm_step"] for one in rounds]
    return {
        "flags": "+".join(flags) or "plain",
        "ours": statistics.median(one["our_step"] for one in rounds),
        "timm": statistics.median(one["timm_step"] for one in rounds),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "first_step_s": firsts["our_step"],
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--synchronized", action="store_true", help="the peer waits each update")
    given = parser.parse_args()
    torch.backends.cudnn.benchmark = True  # timm's train.py sets both so
    torch.backends.cuda.matmul.allow_tf32 = True
    wanted = [flags for flags in FLAGS if not (given.no_compile and "compile" in flags)]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(f"{given.model} at {given.side}, batch {given.batch}, {device}", flush=True)
    results: list[dict[str, float | str]] = []
    for flags in wanted:
        one = compare(given, flags)
        results.append(one)
        gain = float(one["ours"]) / float(results[0]["ours"])
        print(
            f"{one['flags']:<30} ours {one['ours']:9.1f} img/s  timm {one['timm']:9.1f}  "
            f"ratio {one['ratio']:.3f} ({one['lowest']:.3f} to {one['highest']:.3f}; goal {GOAL}) "
            f"gain {gain:.2f}x  first step {one['first_step_s']:.1f} s",
            flush=True,
        )
    versions = {"torch": torch.__version__, "timm": timm.__version__, "device": device,
                "python": platform.python_version()}  # fmt: skip
    print(json.dumps({"benchmark": "gpu_resnet50", "results": results, **versions}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
