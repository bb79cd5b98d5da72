"""Other loaders doing the feed's work, to be measured beside it: torchvision and timm.

Owns their set-up for a fair run: the same bytes, the same crop and mirror, batches of normalized
float32, one thread each or so many worker processes. Loaded only when a comparison is asked for.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from discern.base.errors import DataError
from discern.feed.throughput import FeedInput, FeedTest, Peer, RunEpoch

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage


class EncodedImages:
    """A map-style data set of Pillow images with target 0, as both loaders take it."""

    def __init__(self, given: FeedInput, channels: int) -> None:
        self._given = given
        self._mode = "L" if channels == 1 else "RGB"
        self.transform: Callable[[PillowImage], Any] | None = None
        self.target_transform = None

    def __len__(self) -> int:
        return len(self._given.positions)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        source, positions = self._given
        data = source.read(int(positions[index]))
        if not isinstance(data, bytes):
            raise DataError("only encoded images can be compared", where=source.name(index))
        image: PillowImage = Image.open(io.BytesIO(data)).convert(self._mode)
        return (image if self.transform is None else self.transform(image)), 0


def torchvision_peer(given: FeedInput, test: FeedTest, workers: int) -> RunEpoch:
    """torchvision's transforms on Pillow images in torch's DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import transforms

    preprocess, augment = test.preprocess, test.augment
    images = EncodedImages(given, preprocess.channels)
    size = (preprocess.height, preprocess.width)
    images.transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=augment.scale, ratio=augment.ratio),
            transforms.RandomHorizontalFlip(0.5 if augment.flip else 0.0),
            transforms.ToTensor(),
            transforms.Normalize(preprocess.mean, preprocess.std),
        ]
    )
    loader: DataLoader[Any] = DataLoader(
        images,  # type: ignore[arg-type]  # a data set by its methods
        batch_size=test.batch_size,
        shuffle=True,
        num_workers=workers,
    )
    return lambda _: sum(len(batch) for batch, _ in loader)


def timm_peer(given: FeedInput, test: FeedTest, workers: int) -> RunEpoch:
    """timm's create_loader with its training transforms, without color and erasing."""
    from timm.data.loader import create_loader

    # Its annotations name only timm's own data sets and forbid None, which it takes.
    create: Any = create_loader
    preprocess, augment = test.preprocess, test.augment
    loader = create(
        EncodedImages(given, preprocess.channels),
        input_size=(preprocess.channels, preprocess.height, preprocess.width),
        batch_size=test.batch_size,
        is_training=True,
        scale=augment.scale,
        ratio=augment.ratio,
        hflip=0.5 if augment.flip else 0.0,
        color_jitter=None,
        interpolation="bilinear",
        mean=preprocess.mean,
        std=preprocess.std,
        num_workers=workers,
        use_prefetcher=False,
        persistent_workers=False,
        pin_memory=False,
    )
    return lambda _: sum(len(batch) for batch, _ in loader)


PEERS: dict[str, Peer] = {"torchvision + PIL": torchvision_peer, "timm": timm_peer}
