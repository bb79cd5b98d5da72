"""The device and the seed of a training of your own, as configs to mix in."""

from __future__ import annotations

import torch
from torch import nn

from discern.base.console import Console
from discern.compute.device import seed_everything
from discern.config.lazy import BaseConfigs


def get_device(
    use_cuda: bool | nn.Module = True,  # noqa: FBT001, FBT002
    cuda_device: int = 0,
) -> torch.device:
    """The device to compute on, or the one that a module is on.

    Without CUDA an Apple GPU, else the CPU. An index beyond the last GPU takes the last, with a
    warning.
    """
    if isinstance(use_cuda, nn.Module):
        return next(use_cuda.parameters()).device
    if not use_cuda:
        return torch.device("cpu")
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if cuda_device >= count:
            Console().warn(
                f"there are {count} GPUs, none of index {cuda_device}: the last is taken"
            )
        return torch.device("cuda", min(cuda_device, count - 1))
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def describe_device(device: torch.device, *, wanted_cuda: bool = True) -> str:
    """`GPU 0: NAME`, or which other device it is and why."""
    if device.type == "cuda":
        return f"GPU {device.index}: {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "Apple GPU"
    return "CPU (no GPU here)" if wanted_cuda else "CPU (use_cuda is off)"


class DeviceConfigs(BaseConfigs):
    """`device`, from `use_cuda` and `cuda_device`, with its text; none is a hyper-parameter."""

    use_cuda: bool = True
    cuda_device: int = 0
    device: torch.device
    device_info: str
    _primary = "device"


@DeviceConfigs.calc(DeviceConfigs.device)
def chosen_device(c: DeviceConfigs) -> torch.device:
    """The device that there is."""
    return get_device(c.use_cuda, c.cuda_device)


@DeviceConfigs.calc(DeviceConfigs.device_info)
def device_text(c: DeviceConfigs) -> str:
    """The device in words."""
    return describe_device(c.device, wanted_cuda=c.use_cuda)


DeviceConfigs.set_hyperparams(
    DeviceConfigs.use_cuda,
    DeviceConfigs.cuda_device,
    DeviceConfigs.device,
    DeviceConfigs.device_info,
    is_hyperparam=False,
)


class SeedConfigs(BaseConfigs):
    """`set_seed`, to be computed first: seeds torch, NumPy and Python with `seed`."""

    seed: int = 5
    set_seed = "set_seed"


@SeedConfigs.calc(SeedConfigs.set_seed)
def set_seed(c: SeedConfigs) -> int:
    """Seed all generators; gives the seed."""
    seed_everything(c.seed)
    return c.seed
