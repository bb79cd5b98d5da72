"""Where on an image a class was seen: Grad-CAM on convolutional networks and transformers.

Owns the choice of the layer and the maps. Selvaraju et al., "Grad-CAM", ICCV 2017, equations 1, 2:
each channel of a layer weighs what its gradient averages to, and the weighted sum is cut at zero.
Axes: N images, C channels, H height, W width, K classes; a map is [h, w], T its tokens, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from discern.base.errors import ModelError
from discern.models.classifier import Classifier
from discern.models.layer_outputs import caught, find_layer
from discern.models.named_heads import packed_logits


@dataclass(frozen=True, slots=True)
class ActivationLayer:
    """A layer whose output is a map: `layout` NCHW, NHWC, or tokens [N, T, D].

    Of tokens the first `prefix` belong to no place; the others are the rows of `grid` (h, w).
    """

    name: str
    layout: str
    prefix: int = 0
    grid: tuple[int, int] = (0, 0)

    def as_maps(self, values: Tensor) -> Tensor:
        """The layer's output, or its gradient, as [N, D, h, w]."""
        if self.layout == "NCHW":
            return values
        if self.layout == "NHWC":
            return values.permute(0, 3, 1, 2)
        placed = values[:, self.prefix :].transpose(1, 2)
        return placed.reshape(*placed.shape[:2], *self.grid)


def find_map_layer(model: Classifier, images: Tensor, name: str | None = None) -> ActivationLayer:
    """The layer to look at: `name` as in `network.named_modules()`, else the last that maps.

    Of a transformer, by timm's record of it, the last block's output; where only the class token
    is read, the gradient there is zero at every place, and the norm before its attention is taken.
    `images` [N, C, H, W], normalized, on the model's device: one pass is made with them.
    Raises ConfigError for a name that is none, ModelError if the layer, or no layer, gives a map.
    """
    network = model.network
    if name is not None:
        find_layer(network, name)
    outputs = _outputs(model, images)
    wanted = [name] if name is not None else _candidates(network, outputs)
    flat = None
    for candidate in wanted:
        layer = _layout(network, candidate, outputs.get(candidate), images)
        if layer is None:
            continue
        if name is not None or _is_read(model, layer, images):
            return layer
        flat = layer
    if name is None and flat is not None:
        return flat  # nowhere a gradient: these images' maps are empty, whichever layer it is
    shape = None if name is None or name not in outputs else tuple(outputs[name].shape)
    raise ModelError(
        "the layer gives no map of the image" if name else "no layer of the network gives a map",
        where=name or type(network).__name__,
        got=shape,
        expected="an output [N, C, h, w], [N, h, w, C] or tokens [N, T, D]",
        hint="--layer NAME; `discern models show --layers` lists them",
    )


def activation_maps(
    model: Classifier, layer: ActivationLayer, images: Tensor, places: Tensor
) -> Tensor:
    """Grad-CAM of each image for its logit `places` int64 [N]: float32 [N, h, w], at least 0.

    `images` [N, C, H, W], normalized; the model is in evaluation mode and keeps no gradient.
    Logits of several heads stand side by side, as in `packed_logits`.
    """
    activation, gradient = _pass_back(model, layer, images, places)
    values, slopes = layer.as_maps(activation), layer.as_maps(gradient)
    weights = slopes.mean((2, 3), keepdim=True)
    return (weights * values).sum(1).relu_().float()


def _pass_back(
    model: Classifier, layer: ActivationLayer, images: Tensor, places: Tensor
) -> tuple[Tensor, Tensor]:
    """The layer's output and the gradient of the chosen logits by it."""
    with caught(model.network.get_submodule(layer.name)) as kept, torch.enable_grad():
        # A frozen network has a gradient all the same, by way of its input.
        logits = packed_logits(model(images.detach().clone().requires_grad_()))
        chosen = logits.gather(1, places[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, [kept[-1]], allow_unused=True)
    activation = kept[-1].detach()
    return activation, torch.zeros_like(activation) if gradient is None else gradient


def _is_read(model: Classifier, layer: ActivationLayer, images: Tensor) -> bool:
    """Whether some place of the layer's map has a say in the likeliest class of some image."""
    with torch.no_grad():
        places = packed_logits(model(images)).argmax(1)
    return bool(layer.as_maps(_pass_back(model, layer, images, places)[1]).any())


def _outputs(model: Classifier, images: Tensor) -> dict[str, Tensor]:
    """The outputs of all layers in a pass, by name, in the order in which they were done."""
    found: dict[str, Tensor] = {}

    def keep(name: str, output: Any) -> None:
        if isinstance(output, Tensor):
            found.pop(name, None)  # a layer used twice: the last time counts
            found[name] = output.detach()

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, module in model.network.named_modules()
    ]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _candidates(network: nn.Module, outputs: dict[str, Tensor]) -> list[str]:
    """Layers to try, best first: a transformer's by timm's record, else all from the last back."""
    last = _recorded_last(network)
    if last is not None and last in outputs and outputs[last].ndim == 3:
        return [last, f"{last}.norm1"]
    maps = [name for name, output in outputs.items() if output.ndim == 4]
    return maps[::-1]


def _recorded_last(network: nn.Module) -> str | None:
    """The module that timm's `feature_info` names last."""
    listed = getattr(network, "feature_info", None)
    rows = getattr(listed, "info", listed)
    if not isinstance(rows, Sequence) or not rows or not isinstance(rows[-1], dict):
        return None
    return cast("str | None", rows[-1].get("module"))


def _layout(
    network: nn.Module, name: str, output: Tensor | None, images: Tensor
) -> ActivationLayer | None:
    """How the output of layer `name` is a map; None if it is none, or of one place only."""
    if output is None or len(output) != len(images):
        return None
    if output.ndim == 4:
        width = getattr(network, "num_features", None)
        last = str(getattr(network, "output_fmt", "NCHW")) == "NHWC"
        if output.shape[1] == width:
            last = False
        elif output.shape[3] == width:
            last = True
        size = output.shape[1:3] if last else output.shape[2:4]
        return ActivationLayer(name, "NHWC" if last else "NCHW") if min(size) > 1 else None
    if output.ndim != 3:
        return None
    prefix = int(getattr(network, "num_prefix_tokens", 0))
    grid = _grid(network, output.shape[1] - prefix, images)
    return None if grid is None else ActivationLayer(name, "tokens", prefix, grid)


def _grid(network: nn.Module, count: int, images: Tensor) -> tuple[int, int] | None:
    """Rows and columns of `count` tokens: as the network says, else in the images' shape."""
    said = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if said is not None and math.prod(said) == count:
        return int(said[0]), int(said[1])
    height, width = images.shape[2:]
    rows = round(math.sqrt(count * height / width)) if count > 0 else 0
    return (rows, count // rows) if rows > 0 and rows * (count // rows) == count else None
