"""The one range convention of images: uint8 0..255, unit 0..1, signed -1..1; grids and bits per dimension.

Shapes: N images, B batch, C channels, H height, W width.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)


def unit(image: Tensor) -> Tensor:
    """uint8 levels 0..255 -> float 0..1, any shape."""
    return image.float() / 255


def quantise(image: Tensor) -> Tensor:
    """Float 0..1 -> nearest uint8 level, any shape; values outside are clamped."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def signed(image: Tensor) -> Tensor:
    """Unit 0..1 -> signed -1..1."""
    return image * 2 - 1


def unsigned(image: Tensor) -> Tensor:
    """Signed -1..1 -> unit 0..1."""
    return (image + 1) / 2


def inputs(batch: dict[str, Tensor]) -> Tensor:
    """What a model sees of a batch: images as unit floats [B, C, H, W], or points [B, D] as they are."""
    return unit(batch["image"]) if "image" in batch else batch["point"]


def grid(images: Tensor, columns: int, gap: int = 1) -> Tensor:
    """Tile unit images row by row on white: [N, C, H, W] -> [H', W', 3], uint8.

    One channel is repeated to three; of more than three channels the first three are shown. Sequences, images one row
    high, are shown as waveforms.
    """
    images = visible(images)
    n, c, h, w = images.shape
    rows = -(-n // columns)
    canvas = torch.full((rows * (h + gap) + gap, columns * (w + gap) + gap, 3), 255, dtype=torch.uint8)
    colours = images.expand(n, 3, h, w) if c == 1 else images[:, [0, min(1, c - 1), min(2, c - 1)]]
    for i, tile in enumerate(quantise(colours).permute(0, 2, 3, 1).cpu()):
        y, x = gap + (i // columns) * (h + gap), gap + (i % columns) * (w + gap)
        canvas[y : y + h, x : x + w] = tile
    return canvas


def visible(images: Tensor) -> Tensor:
    """Images as they are, sequences [N, C, 1, T] as waveforms."""
    return waveform(images) if images.shape[2] == 1 < images.shape[3] else images


def waveform(x: Tensor, height: int = 64, width: int = 64) -> Tensor:
    """Levels over time, black on white: [N, C, 1, T] -> [N, C, height, at most width], a column from least to most."""
    columns = min(width, x.shape[3])
    parts = x[:, :, 0, : x.shape[3] // columns * columns].unflatten(2, (columns, -1)).clamp(0, 1)
    level, half = torch.linspace(1, 0, height, device=x.device).view(-1, 1), 0.5 / (height - 1)
    drawn = (level >= parts.amin(3)[:, :, None] - half) & (level <= parts.amax(3)[:, :, None] + half)
    return 1 - drawn.to(x.dtype)


def bits_per_dim(nats: Number, dimensions: int, levels: int = 0) -> Number:
    """Negative log-likelihood in nats per image -> bits per dimension (Theis et al., 2016, sec. 3.1).

    `levels = 0`: the likelihood is a probability of discrete values. `levels = L`: it is a density over
    the unit range, taken as constant across each of L levels, whose width is 1/(L-1).
    """
    width = math.log(levels - 1) if levels else 0.0
    return (nats / dimensions + width) / math.log(2)
