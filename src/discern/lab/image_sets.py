"""MNIST and CIFAR-10 as configs to mix in: data sets in memory, and loaders over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from discern.base.errors import DataError
from discern.base.seeds import derive_seed
from discern.config.lazy import BaseConfigs
from discern.data.catalog import read_catalog
from discern.lab.project_file import find_project

# The figures of MNIST's own tutorials; CIFAR's map 0..1 to -1..1.
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081
CIFAR_MEAN, CIFAR_STD = 0.5, 0.5
_MNIST_SIDE: Final = 28
_DIGITS_HELD_OUT: Final = 5  # every fifth of the built-in digits is for validation


class Normalize:
    """uint8 pixels [N, C, H, W] to floats: (pixel / 255 - mean) / std."""

    def __init__(self, mean: float, std: float) -> None:
        self.mean = mean
        self.std = std

    def __call__(self, pixels: Tensor) -> Tensor:
        return (pixels.float() / 255.0 - self.mean) / self.std

    def __repr__(self) -> str:
        return f"Normalize({self.mean}, {self.std})"


class PixelSet(Dataset[tuple[Any, int]]):
    """Images [N, C, H, W] of uint8 and targets [N] in memory; an item is (image, target).

    A `Normalize` works on whole batches; any other transform gets each image as a PIL image, as
    torchvision's do.
    """

    def __init__(self, pixels: Tensor, targets: Tensor, transform: Callable[[Any], Any]) -> None:
        self.pixels = pixels
        self.targets = targets
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._image(index), int(self.targets[index])

    def __getitems__(self, indices: Sequence[int]) -> tuple[Any, Tensor]:
        """A whole batch at once."""
        chosen = torch.as_tensor(indices)
        if isinstance(self.transform, Normalize):
            return self.transform(self.pixels[chosen]), self.targets[chosen]
        return torch.stack([self._image(int(index)) for index in indices]), self.targets[chosen]

    def _image(self, index: int) -> Any:
        if isinstance(self.transform, Normalize):
            return self.transform(self.pixels[index : index + 1])[0]
        from PIL import Image

        array = np.ascontiguousarray(self.pixels[index].permute(1, 2, 0).numpy())
        return self.transform(Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array))


class ImageSetConfigs(BaseConfigs):
    """Data sets and loaders; `dataset_name` picks what they read."""

    dataset_name: str
    dataset_transforms: Any
    train_dataset: Dataset[Any]
    valid_dataset: Dataset[Any]
    train_batch_size: int = 64
    valid_batch_size: int = 1024
    train_loader_shuffle: bool = True
    valid_loader_shuffle: bool = False
    train_loader: DataLoader[Any]
    valid_loader: DataLoader[Any]


class MNISTConfigs(ImageSetConfigs):
    """MNIST from the project's `data_path`, else downloaded; `dataset_name` digits needs no files.

    The built-in digits are enlarged to 28 x 28; every fifth is held out.
    """

    dataset_name: str = "MNIST"
    dataset_transforms: Any = Normalize(MNIST_MEAN, MNIST_STD)


class CIFAR10Configs(ImageSetConfigs):
    """CIFAR-10 from the project's `data_path`, else downloaded."""

    dataset_name: str = "CIFAR10"
    dataset_transforms: Any = Normalize(CIFAR_MEAN, CIFAR_STD)


@ImageSetConfigs.calc([ImageSetConfigs.train_dataset, ImageSetConfigs.valid_dataset])
def image_sets(c: ImageSetConfigs) -> tuple[PixelSet, PixelSet]:
    """The training and the validation images of `dataset_name`."""
    train, valid = _parts(c.dataset_name)
    return PixelSet(*train, c.dataset_transforms), PixelSet(*valid, c.dataset_transforms)


@ImageSetConfigs.calc(ImageSetConfigs.train_loader)
def train_loader(c: ImageSetConfigs) -> DataLoader[Any]:
    """The training images in batches."""
    return _loader(c.train_dataset, c.train_batch_size, shuffle=c.train_loader_shuffle)


@ImageSetConfigs.calc(ImageSetConfigs.valid_loader)
def valid_loader(c: ImageSetConfigs) -> DataLoader[Any]:
    """The validation images in batches."""
    return _loader(c.valid_dataset, c.valid_batch_size, shuffle=c.valid_loader_shuffle)


def _loader(dataset: Dataset[Any], batch_size: int, *, shuffle: bool) -> DataLoader[Any]:
    whole = _as_it_is if isinstance(dataset, PixelSet) else None
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, collate_fn=whole)


def _as_it_is(batch: Any) -> Any:
    return batch


def _parts(name: str) -> list[tuple[Tensor, Tensor]]:
    """(pixels, targets) for training and for validation: the original test images."""
    catalog = name.lower()
    if catalog == "digits":
        return _digits()
    root = find_project().data_path
    try:
        found = read_catalog(catalog, str(root)) if root.is_dir() else read_catalog(catalog, None)
    except DataError:
        if not root.is_dir():
            raise
        found = read_catalog(catalog, None)  # the folder holds other data: download
    return [
        (
            torch.from_numpy(found.pixels[split]).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(found.targets[split]),
        )
        for split in ("train", "test")
    ]


def _digits() -> list[tuple[Tensor, Tensor]]:
    found = read_catalog("digits", None)
    pixels = torch.from_numpy(found.pixels["all"]).permute(0, 3, 1, 2)
    size = (_MNIST_SIDE, _MNIST_SIDE)
    large = F.interpolate(pixels.float(), size, mode="bilinear", align_corners=False)
    order = torch.from_numpy(
        np.random.default_rng(derive_seed(0, "digits")).permutation(len(large))
    )
    held = order[::_DIGITS_HELD_OUT]
    kept = order[torch.arange(len(order)) % _DIGITS_HELD_OUT != 0]
    targets = torch.from_numpy(found.targets["all"])
    images = large.round().to(torch.uint8)
    return [(images[chosen], targets[chosen]) for chosen in (kept, held)]
