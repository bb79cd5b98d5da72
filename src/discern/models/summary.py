"""A network layer by layer: what each gives, holds, learns and computes; what training keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from discern.models.arithmetic import layer_macs
from discern.models.classifier import Classifier

_WRAPPER: Final = "network."


def summarize(network: nn.Module, sample: Tensor) -> dict[str, Any]:
    """The fields of a model summary (`track.model_summary`) of `network` for one image.

    `sample` [1, C, H, W] goes through it once, in evaluation mode; no weight, mode or random
    generator changes. Layers are those without layers inside and those with parameters of their
    own, in the order of their first use; what is not used stands at the end without an output. A
    parameter that layers share counts in the first. `memory`: bytes of the parameters, of the
    gradients of those that learn now, and what autograd keeps for the backward pass of one image,
    measured: the image itself if a layer that learns reads it, each kept tensor once.
    """
    rows = _Rows(network)
    kept: dict[int, Tensor] = {}
    fixed = {_storage(t) for t in (*network.parameters(), *network.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in fixed:
            kept[_storage(tensor)] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with _in_evaluation(network), rows.watched(), torch.enable_grad(), hooks:
        network(sample)
    activations = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    layers = rows.records()
    own = [p for p in network.parameters() if p.requires_grad]
    return {
        "source": "counted",
        "network": type(network.network if isinstance(network, Classifier) else network).__name__,
        "input": list(sample.shape[1:]),
        "parameters": sum(layer["parameters"] for layer in layers),
        "trainable": sum(layer["trainable"] for layer in layers),
        "macs": sum(layer["macs"] for layer in layers),
        "layers": layers,
        "memory": {
            "parameters": _bytes(network.parameters()),
            "gradients": _bytes(own),
            "activations": activations,
        },
    }


class _Rows:
    """A record for each layer that matters, filled while an image passes."""

    def __init__(self, network: nn.Module) -> None:
        self._layers: dict[str, nn.Module] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        self._seen: dict[str, tuple[list[int] | None, int]] = {}
        told: set[int] = set()
        for name, layer in network.named_modules():
            own = [p for p in layer.parameters(recurse=False) if id(p) not in told]
            told |= {id(p) for p in own}
            if own or not any(True for _ in layer.children()):
                self._layers[name] = layer
                learns = sum(p.numel() for p in own if p.requires_grad)
                self._counts[name] = (sum(p.numel() for p in own), learns)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note what each layer gives meanwhile."""
        handles = []
        for name, layer in self._layers.items():

            def note(module: nn.Module, _inputs: object, output: Any, name: str = name) -> None:
                first = _first_tensor(output)
                _, macs = self._seen.get(name, (None, 0))
                if first is not None:
                    macs += layer_macs(module, first)
                self._seen[name] = (None if first is None else list(first.shape[1:]), macs)

            handles.append(layer.register_forward_hook(note))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def records(self) -> list[dict[str, Any]]:
        """The layers in the order in which they gave something; then the others."""
        order = [*self._seen, *(name for name in self._layers if name not in self._seen)]
        return [self._record(name) for name in order]

    def _record(self, name: str) -> dict[str, Any]:
        parameters, learns = self._counts[name]
        output, macs = self._seen.get(name, (None, 0))
        return {
            "name": name.removeprefix(_WRAPPER),
            "kind": type(self._layers[name]).__name__,
            "output": output,
            "parameters": parameters,
            "trainable": learns,
            "macs": macs,
        }


@contextlib.contextmanager
def _in_evaluation(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, then each layer's own mode again."""
    modes = [(layer, layer.training) for layer in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    entries: Sequence[Any] = []
    if isinstance(output, Mapping):
        entries = [*output.values()]
    elif isinstance(output, (tuple, list)):
        entries = output
    return next((found for found in map(_first_tensor, entries) if found is not None), None)


def _storage(tensor: Tensor) -> int:
    """The identity of the memory under a tensor, which on the meta device has no address."""
    return int(tensor.untyped_storage()._cdata)


def _bytes(parameters: Any) -> int:
    return sum(p.numel() * p.element_size() for p in parameters)
