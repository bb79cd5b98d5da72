"""What can be done to the colors of uint8 images, as functions of (images, parameters).

Owns no chance: the parameters come from outside. Functions named in the plural work on a batch
with a parameter for each image, in plain multiplications and additions, so that an image comes
out the same in any batch; the others on one image, by torchvision's functionals or OpenCV.

Axes: N samples, C channels (1 or 3), H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Weights of red, green and blue in a grey value: ITU-R 601, as torchvision rounds them.
_LUMA = (0.2989, 0.587, 0.114)

# Principal components of ImageNet's colors, columns scaled by the square roots of the eigenvalues
# (55.46, 4.794, 1.148 on 0..255 pixels): MXNet's constants, after A. Krizhevsky et al., ImageNet
# Classification with Deep Convolutional Neural Networks, 2012, section 4.1.
LIGHTING_VALUES = (55.46, 4.794, 1.148)
LIGHTING_VECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def scale_brightnesses(images: Tensor, factors: Tensor) -> Tensor:
    """`images` uint8 [N,C,H,W] times `factors` [N]; cut off at 255."""
    return _to_bytes(images.to(torch.float32) * _per_image(factors, images))


def shift_brightnesses(images: Tensor, levels: Tensor) -> Tensor:
    """`images` uint8 [N,C,H,W] plus `levels` [N], in pixel values; cut off at 0 and 255."""
    return _to_bytes(images.to(torch.float32) + _per_image(levels, images))


def scale_contrasts(images: Tensor, factors: Tensor) -> Tensor:
    """`images` uint8 [N,C,H,W] spread by `factors` [N] about their mean grey value."""
    grey = _grey_floats(images)
    # Grey values are whole numbers: their sum in integers is the same in any order.
    pixels = grey.shape[-1] * grey.shape[-2]
    mean = grey.to(torch.int64).sum((1, 2, 3)).to(torch.float64).div_(pixels).to(torch.float32)
    return _blend(images.to(torch.float32), _per_image(mean, images), factors)


def scale_saturations(images: Tensor, factors: Tensor) -> Tensor:
    """`images` uint8 [N,C,H,W] spread by `factors` [N] about their grey image; grey ones stay."""
    if images.shape[1] == 1:
        return images
    return _blend(images.to(torch.float32), _grey_floats(images), factors)


def scale_shift(images: Tensor, factors: Tensor, levels: Tensor) -> Tensor:
    """`images` uint8 [N,C,H,W] times `factors` [N] plus `levels` [N], cut off at 0 and 255."""
    scaled = images.to(torch.float32) * _per_image(factors, images)
    return _to_bytes(scaled + _per_image(levels, images))


def shift_channels(images: Tensor, levels: Tensor) -> Tensor:
    """`images` uint8 [N,C,H,W] plus `levels` [N,C], in pixel values; cut off at 0 and 255."""
    added = levels.to(device=images.device, dtype=torch.float32)[:, :, None, None]
    return _to_bytes(images.to(torch.float32) + added)


def turn_grey(images: Tensor) -> Tensor:
    """The grey values of `images` uint8 [N,C,H,W], repeated for each channel."""
    if images.shape[1] == 1:
        return images
    return _grey_floats(images).to(torch.uint8).expand_as(images).contiguous()


def lighting_levels(alphas: NDArray[np.float64]) -> NDArray[np.float64]:
    """What PCA noise adds to red, green and blue: [N,3] levels for `alphas` [N,3]."""
    scaled = np.array(LIGHTING_VECTORS) * np.array(LIGHTING_VALUES)
    levels: NDArray[np.float64] = alphas @ scaled.T
    return levels


def turn_hue(image: Tensor, turn: float) -> Tensor:
    """`image` uint8 [C,H,W] with its hue moved by `turn`, -0.5 to 0.5 of the circle."""
    if image.shape[0] == 1 or turn == 0.0:
        return image
    from torchvision.transforms.v2 import functional as F

    changed: Tensor = F.adjust_hue(image, hue_factor=turn)
    return changed


def bend_gamma(image: Tensor, gamma: float) -> Tensor:
    """`image` uint8 [C,H,W], each value v of 0..1 become v ** gamma."""
    from torchvision.transforms.v2 import functional as F

    changed: Tensor = F.adjust_gamma(image, gamma=gamma)
    return changed


def shift_hls(image: Tensor, hue: int, lightness: int, saturation: int) -> Tensor:
    """`image` uint8 [3,H,W] with whole levels added to hue (of 180), lightness and saturation.

    The hue goes round the circle. (MXNet cuts it off at red: a fault that is not repeated.)
    """
    import cv2

    return _shift_in(
        image, cv2.COLOR_RGB2HLS, cv2.COLOR_HLS2RGB, levels=(hue, lightness, saturation)
    )


def shift_hsv(image: Tensor, hue: int, saturation: int, value: int) -> Tensor:
    """`image` uint8 [3,H,W] with whole levels added to hue (of 180), saturation and value."""
    import cv2

    return _shift_in(image, cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB, levels=(hue, saturation, value))


def equalize_tiles(image: Tensor, clip: float, tiles: int) -> Tensor:
    """`image` uint8 [C,H,W], its lightness equalized in `tiles` x `tiles` parts (CLAHE).

    `clip` limits how much the contrast of a part can grow. Source: K. Zuiderveld, Contrast Limited
    Adaptive Histogram Equalization, 1994; by OpenCV, on L of Lab.
    """
    import cv2

    equalizer = cv2.createCLAHE(clipLimit=clip, tileGridSize=(tiles, tiles))
    pixels = to_rows(image)
    if pixels.shape[2] == 1:
        return from_rows(equalizer.apply(pixels[:, :, 0])[:, :, None], image)
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    lab[:, :, 0] = equalizer.apply(np.ascontiguousarray(lab[:, :, 0]))
    return from_rows(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), image)


def compress_jpeg(image: Tensor, quality: int) -> Tensor:
    """`image` uint8 [C,H,W] after a journey through a JPEG file of `quality` 1 to 100."""
    import simplejpeg

    pixels = to_rows(image)
    space = "GRAY" if pixels.shape[2] == 1 else "RGB"
    data = simplejpeg.encode_jpeg(pixels, quality=quality, colorspace=space)
    return from_rows(simplejpeg.decode_jpeg(data, colorspace=space), image)


def to_rows(image: Tensor) -> NDArray[np.uint8]:
    """The pixels of `image` uint8 [C,H,W] as OpenCV and Pillow want them: [H,W,C] in one piece."""
    pixels: NDArray[np.uint8] = image.permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels


def from_rows(pixels: NDArray[Any], like: Tensor) -> Tensor:
    """The image of `pixels` [H,W,C] (or [H,W] if grey) as uint8 [C,H,W] on the device of `like`."""
    shaped = pixels if pixels.ndim == 3 else pixels[:, :, None]
    return torch.from_numpy(np.ascontiguousarray(shaped.transpose(2, 0, 1))).to(like.device)


def _shift_in(image: Tensor, there: int, back: int, *, levels: tuple[int, int, int]) -> Tensor:
    """Levels added in a color space whose first channel is a hue of 180 steps."""
    import cv2

    if image.shape[0] == 1:
        return image
    values = cv2.cvtColor(to_rows(image), there).astype(np.int16)
    values += np.array(levels, np.int16)
    values[:, :, 0] %= 180
    np.clip(values[:, :, 1:], 0, 255, out=values[:, :, 1:])
    return from_rows(cv2.cvtColor(values.astype(np.uint8), back), image)


def _grey_floats(images: Tensor) -> Tensor:
    """Whole grey values of `images`, float32 [N,1,H,W]."""
    if images.shape[1] == 1:
        return images.to(torch.float32)
    red, green, blue = (images[:, k].to(torch.float32) for k in range(3))
    grey = red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]
    return grey.floor_()[:, None]


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """`factors` of the one, the rest of the other: uint8."""
    share = _per_image(factors, images)
    return _to_bytes(images * share + others * (1.0 - share))


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(device=images.device, dtype=torch.float32)[:, None, None, None]


def _to_bytes(values: Tensor) -> Tensor:
    """Cut off to 0..255 and rounded down, as torchvision does."""
    return values.clamp_(0, 255).to(torch.uint8)
