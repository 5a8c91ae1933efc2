"""Image files of all kinds, as squares of one size and three channels.

Files are untrusted: only formats that Pillow decodes itself are opened, up to `MAX_PIXELS`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kinase.api.task import FolderImages
from kinase_trainer.datasets.raw import shown
from kinase_trainer.errors import ConfigError
from kinase_trainer.lazy import as_float

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
"""Supported formats, by Pillow's names; none of them runs another program."""
ENDINGS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".bmp", ".dib"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp", ".jp2", ".j2k", ".avif"),
)
"""Suffixes of image files, in lower case."""
MAX_PIXELS = 80_000_000
"""Maximum size of an image in pixels: a small file can contain a very large image."""

LONGEST = 16
"""Maximum ratio of the sides of an image that is scaled before it is cropped: a line of pixels
would become a very large image."""

_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""Orders of bytes, by Pillow's letters: the other one of each. N is that of this machine."""


@cache
def _formats() -> tuple[str, ...]:
    """The formats of `FORMATS` that this Pillow supports."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@dataclass(frozen=True)
class Picture:
    """A decoded image file."""

    pixels: Tensor
    """(3, side, side): unsigned bytes, or floats in 0..1 if it has more than 8 bits."""
    square: bool
    transparent: bool
    animated: bool
    """Whether it has more frames or pages, which are ignored."""


def read(path: str, side: int, options: FolderImages) -> Picture:
    """Read an image file, apply its orientation and the background, and make it a square.

    Raises:
        ConfigError: it cannot be read; the message names the file.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ConfigError(_too_large(path))
            animated = image.format != "MPO" and getattr(image, "is_animated", False)
            # Pillow scales what a PGM file has above 8 bits to 16
            deep = image.format in ("PNG", "PPM") or image.mode.startswith("I;16")
            scale = 65535 if deep else 0
            swapped = _swapped(image.tile)
            image.load()
            upright = ImageOps.exif_transpose(image)
            transparent = upright.mode in ("RGBA", "LA", "PA", "La", "RGBa")
            transparent |= "transparency" in upright.info
            if swapped and upright.mode in ("RGB", "RGBA") and "transparency" not in upright.info:
                pixels = _joined(upright, path, swapped, options.background)
            else:
                pixels = _pixels(upright, scale, options.background)
    except ConfigError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ConfigError(_too_large(path)) from None
    except FileNotFoundError:
        raise ConfigError(f"{shown(path)} no longer exists") from None
    except UnidentifiedImageError:
        raise ConfigError(
            f"{shown(path)} is not an image, or is damaged at its beginning; replace or remove it"
        ) from None
    except Exception as error:  # decoders raise various errors for damaged files
        text = f"{type(error).__name__}: {error!s:.200}"
        raise ConfigError(
            f"{shown(path)} cannot be read as an image ({text}); replace or remove it"
        ) from error
    if pixels.is_floating_point() and not bool(((pixels >= 0) & (pixels <= 1)).all()):
        low, high = float(pixels.min()), float(pixels.max())
        raise ConfigError(
            f"{shown(path)} holds values from {low:g} to {high:g}; floats must be in 0..1"
        )
    square = pixels.shape[1] == pixels.shape[2]
    return Picture(fit(pixels, side, options), square, transparent, animated)


def size(path: str) -> tuple[int, int]:
    """(width, height) of an image file as displayed; its pixels are not read.

    Raises:
        ConfigError: it cannot be read; the message names the file.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=_formats()) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else (image.width, image.height)
    except Exception as error:  # decoders raise various errors for damaged files
        text = f"{type(error).__name__}: {error!s:.200}"
        raise ConfigError(
            f"{shown(path)} cannot be read as an image ({text}); replace or remove it"
        ) from error


def _too_large(path: str) -> str:
    return (
        f"{shown(path)} has more than {MAX_PIXELS:,} pixels; make it smaller, at best to "
        "task.resolution"
    )


def _pixels(image: Any, scale: int, background: str) -> Tensor:
    """A PIL image as unsigned bytes or floats (3, H, W)."""
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode != "F":
            if not scale:
                raise ValueError(
                    "whole numbers of 32 bits, whose range is unknown; use 8 or 16 bits, or "
                    "floats in 0..1"
                )
            values = values / scale
        grey = torch.from_numpy(np.array(values, np.float32))
        return grey.expand(3, *grey.shape)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _swapped(tiles: Sequence[Any]) -> list[Any]:
    """The tiles of an image of colours of 16 bits, PNG or TIFF, with the order of bytes reversed;
    empty for any other image. Of 16 bits Pillow decodes the high byte alone: with the other order,
    that is the low one."""
    found = []
    for tile in tiles:
        mode, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        colours, _, order = str(mode).partition(";16")
        if colours not in ("RGB", "RGBA") or order not in _SWAPPED:
            return []
        other = f"{colours};16{_SWAPPED[order]}"
        found.append(tile._replace(args=(other, *rest) if isinstance(tile.args, tuple) else other))
    return found


def _joined(high: Any, path: str, swapped: list[Any], background: str) -> Tensor:
    """Floats (3, H, W) in 0..1, from an upright image that has the high bytes, and its file."""
    from PIL import Image, ImageOps

    with Image.open(path, formats=_formats()) as image:
        image.tile = swapped
        low = ImageOps.exif_transpose(image)
    values = np.asarray(high, np.float32) * 256 + np.asarray(low, np.float32)
    pixels = torch.from_numpy(values / np.float32(65535)).permute(2, 0, 1)
    if len(pixels) == 3:
        return pixels
    below = as_float(torch.tensor(list(bytes.fromhex(background[1:])), dtype=torch.uint8))
    return pixels[:3] * pixels[3:] + below[:, None, None] * (1 - pixels[3:])


def fit(pixels: Tensor, side: int, options: FolderImages) -> Tensor:
    """Make an image (3, H, W) square, according to `options.fit`.

    Scaling is bilinear, with antialiasing.
    """
    from torchvision.transforms.v2 import functional as V

    _, height, width = pixels.shape
    size = [side, side]
    if options.fit == "crop" and height != width:
        if max(height, width) <= LONGEST * min(height, width):
            # scaled first: bit for bit the same as in versions without other fits
            cut: Tensor = V.center_crop(V.resize(pixels.contiguous(), [side], antialias=True), size)
            return cut
        pixels = V.center_crop(pixels, [min(height, width)] * 2)
    elif options.fit == "pad" and height != width:
        longer = max(height, width)
        size = [max(1, round(side * height / longer)), max(1, round(side * width / longer))]
    scaled: Tensor = V.resize(pixels.contiguous(), size, antialias=True)
    if size == [side, side]:
        return scaled
    colour = torch.tensor(list(bytes.fromhex(options.background[1:])), dtype=torch.uint8)
    colour = as_float(colour) if scaled.is_floating_point() else colour
    whole = colour[:, None, None].repeat(1, side, side)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    whole[:, top : top + size[0], left : left + size[1]] = scaled
    return whole


class Pictures(Dataset[tuple[Tensor, int]]):
    """Image files and their targets, read on demand."""

    def __init__(
        self,
        paths: Sequence[str],
        targets: Sequence[int],
        side: int,
        options: FolderImages,
        *,
        deep: bool = False,
    ) -> None:
        """Read nothing yet; `deep`: convert all images to floats instead of unsigned bytes."""
        self.paths, self.targets = paths, targets
        self.side, self.options, self.deep = side, options, deep

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Paths and targets, as in torchvision's `ImageFolder`."""
        return list(zip(self.paths, self.targets, strict=True))

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image, in the common type."""
        pixels = read(self.paths[index], self.side, self.options).pixels
        if self.deep:
            pixels = as_float(pixels)
        elif pixels.is_floating_point():
            pixels = (pixels * 255).round_().byte()
        return pixels, self.targets[index]
