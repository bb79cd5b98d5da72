"""Peak memory and time of training steps with activations kept, and computed again.

Each form runs in a child process of its own: a child's peak on the CPU is its largest resident set,
less what it held before the first step; on a GPU it is the allocator's peak. Both forms must end
with the same loss and the same weights, bit for bit (on a GPU: the same loss to 1e-6). Prints a
table and one JSON line.

    OMP_NUM_THREADS=1 python -m benchmarks.recompute
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch

from discern.models.catalogue import ModelRequest, build_model
from discern.models.recompute import recompute_activations

# Less peak memory on resnet50 than with activations kept.
GOAL = 0.30
WARM = 1


def one_form(name: str, *, recompute: bool, batch: int, side: int, steps: int) -> dict[str, Any]:
    """Train on one random batch; gives peak bytes, seconds a step, loss, hash of the weights."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    request = ModelRequest(name=name, num_classes=100, channels=3, image_size=(side, side))
    model = build_model(request).model.to(device, memory_format=torch.channels_last).train()
    if recompute:
        recompute_activations(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for parameter in model.parameters():
        # What a training holds in any case: gradients and momentum come before the first mark.
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        parameter.grad = torch.zeros_like(parameter)
    images = torch.randn(batch, 3, side, side, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.arange(batch, device=device) % 100
    before = _peak(device)
    seconds, loss = [], torch.zeros(())
    for _ in range(WARM + steps):
        started = time.process_time() if device.type == "cpu" else time.perf_counter()
        loss = torch.nn.functional.cross_entropy(model(images).logits, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        value = loss.item()
        now = time.process_time() if device.type == "cpu" else time.perf_counter()
        seconds.append(now - started)
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return {
        "device": str(device),
        "peak": _peak(device) - before,
        "seconds": statistics.median(seconds[WARM:]),
        "loss": value,
        "weights": digest.hexdigest(),
    }


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_child(arguments: argparse.Namespace, *, recompute: bool) -> dict[str, Any]:
    """`one_form` in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.recompute", "--child", str(int(recompute)),
        "--model", arguments.model, "--batch", str(arguments.batch), "--side", str(arguments.side),
        "--steps", str(arguments.steps),
    ]  # fmt: skip
    child = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return result


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both forms; raises RuntimeError if they do not end alike."""
    kept, again = (in_child(arguments, recompute=recompute) for recompute in (False, True))
    same = kept["weights"] == again["weights"] and kept["loss"] == again["loss"]
    if kept["device"] != "cpu":
        same = abs(kept["loss"] - again["loss"]) <= 1e-6 * abs(kept["loss"])
    if not same:
        raise RuntimeError(f"the two forms do not end alike: {kept}, {again}")
    return {
        "kept": kept,
        "recomputed": again,
        "saved": 1 - again["peak"] / kept["peak"],
        "time": again["seconds"] / kept["seconds"],
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--child", type=int)
    given = parser.parse_args()
    if given.child is not None:
        result = one_form(
            given.model,
            recompute=bool(given.child),
            batch=given.batch,
            side=given.side,
            steps=given.steps,
        )
        print(json.dumps(result))
        return 0
    rounds = [measure(given) for _ in range(given.rounds)]
    saved = statistics.median(one["saved"] for one in rounds)
    longer = statistics.median(one["time"] for one in rounds)
    first = rounds[0]
    print(f"{given.model} at {given.side}, batch {given.batch}, {first['kept']['device']}")
    for name in ("kept", "recomputed"):
        form = first[name]
        print(f"{name:<11} peak {form['peak'] / 1e6:8.0f} MB   {form['seconds']:.2f} s a step")
    print(f"saved {saved:.1%} (goal: at least {GOAL:.0%}), {longer:.2f}x the time; same weights")
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    print(json.dumps({"benchmark": "recompute", "saved": saved, "time": longer, **versions}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
