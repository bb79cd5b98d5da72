"""One forward pass of a network, written down: which operation took what from which.

Operations are seen as Python calls them (convolution, batch norm, addition, view, ...), whatever
the network does in between, so that any network that runs can be drawn. Weights are not nodes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from discern.track.event_graph import GraphNode

INPUT: Final = "input"
OUTPUT: Final = "output"


def trace_forward(model: nn.Module, images: Tensor) -> list[GraphNode]:
    """The nodes of `model` for `images` [N, C, H, W], in the order of computation.

    In evaluation mode and without gradients; mode and random numbers are as before afterwards.
    A name is the path of modules, the operation, and its number there if there are several. The
    last node, `output`, takes what the network gives. Raises what the network raises.
    """
    was_training = model.training
    model.eval()
    devices = [images.device] if images.is_cuda else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            recorder = _Recorder(images)
            with _places_told(model, recorder), recorder:
                answer = model(images)
    finally:
        model.train(was_training)
    return recorder.finish(answer)


class _Recorder(TorchFunctionMode):
    """Writes down each call that gives tensors, with the module that is running."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.nodes = [GraphNode(INPUT, "Placeholder", (), tuple(images.shape))]
        self.path: list[str] = []
        self._used = {INPUT, OUTPUT}
        self._numbers: dict[str, int] = {}
        # Tensors are told by identity, so each must live until the end.
        self._kept: list[Tensor] = [images]
        self._makers: dict[int, str] = {id(images): INPUT}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = list(_tensors((args, kwargs)))
        made = [tensor for tensor in _tensors(result) if not isinstance(tensor, nn.Parameter)]
        kind = getattr(func, "__name__", "operation")
        if made and kind != "__get__":
            self._note(kind, given, made)
        return result

    def finish(self, answer: Any) -> list[GraphNode]:
        """All nodes, with the output's."""
        made = list(_tensors(answer))
        shape = tuple(made[0].shape) if made else ()
        return [*self.nodes, GraphNode(OUTPUT, "Output", self._inputs(made), shape)]

    def _note(self, kind: str, given: list[Tensor], made: list[Tensor]) -> None:
        kind = kind.strip("_") or kind
        name = full = "/".join([*self.path, kind])
        number = self._numbers.get(name, 0)
        while full in self._used:
            number += 1
            full = f"{name}_{number}"
        self._numbers[name] = number
        self._used.add(full)
        self.nodes.append(GraphNode(full, kind, self._inputs(given), tuple(made[0].shape)))
        for tensor in made:
            self._kept.append(tensor)
            self._makers[id(tensor)] = full

    def _inputs(self, tensors: list[Tensor]) -> tuple[str, ...]:
        found = [self._makers[id(tensor)] for tensor in tensors if id(tensor) in self._makers]
        return tuple(dict.fromkeys(found))


@contextlib.contextmanager
def _places_told(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """While this lasts, `recorder.path` names the module that is running."""
    handles: list[RemovableHandle] = []
    before: list[list[str]] = []
    for name, module in model.named_modules():
        if not name:
            continue
        path = name.split(".")

        def enter(module: nn.Module, inputs: Any, path: list[str] = path) -> None:  # noqa: ARG001
            before.append(recorder.path)
            recorder.path = path

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001
            recorder.path = before.pop()

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from _tensors(entry)
