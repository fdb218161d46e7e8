"""PixelCNN and gated PixelCNN, and their walks through an image that is being drawn.

Shapes: B batch, C colours, H height, W width, P outputs per pixel, E condition, F features.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Protocol, cast

import torch
from annotated_types import Ge
from torch import Tensor, nn

from dgm.images import signed
from dgm.nn.masked import (
    Above,
    Condition,
    MaskedConv2d,
    Rows,
    Shape,
    Size,
    Stream,
    equal_groups,
    gate,
    raster,
    streams,
)


class Walker(Protocol):
    """A block on its way through an image."""

    def begin(self) -> None:
        """The next row."""
        ...

    def at(self, x: int, features: Tensor) -> Tensor:
        """Features at column x: [B, 2F] -> the same."""
        ...


class Residual(nn.Module):
    """van den Oord et al. (2016), fig. 5: 2h -> h -> h -> 2h, added to its input."""

    def __init__(self, width: int, groups: int, condition: int) -> None:
        super().__init__()
        self.down = MaskedConv2d("B", 2 * width, width, 1, channels=groups)
        self.middle = MaskedConv2d("B", width, width, 3, channels=groups)
        self.up = MaskedConv2d("B", width, 2 * width, 1, channels=groups)
        self.condition = Condition(condition, width)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """[B, 2F, H, W] -> the same."""
        inner = self.condition(self.middle(self.down(x.relu()).relu()), h)
        return x + self.up(inner.relu())

    def walker(self, batch: int, height: int, width: int, h: Tensor | None) -> Walker:
        """This block pixel by pixel."""
        return ResidualWalker(self, batch, height, width, h)


class ResidualWalker:
    """A residual block pixel by pixel."""

    def __init__(self, block: Residual, batch: int, height: int, width: int, h: Tensor | None) -> None:
        self.down, self.middle, self.up = (Stream(conv, batch, width) for conv in (block.down, block.middle, block.up))
        self.added = iter(block.condition.rows(h, height, width))

    def begin(self) -> None:
        """The next row."""
        self.down.begin()
        self.middle.begin(next(self.added))
        self.up.begin()

    def at(self, x: int, features: Tensor) -> Tensor:
        """[B, 2F] -> the same."""
        inner = self.middle.at(x, self.down.at(x, features.relu()).relu_())
        return features + self.up.at(x, inner.relu_())


class Blocks(nn.Module):
    """van den Oord et al. (2016), table 1: a 7 x 7 convolution of kind A, blocks with a path of 2h, two of 1 x 1."""

    order: Tensor

    def __init__(self, shape: Shape, outputs: int, groups: int, width: int, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        equal_groups(width, groups)
        self.register_buffer("order", raster(shape), persistent=False)
        self.first = MaskedConv2d("A", shape[0], 2 * width, 7, channels=groups)
        self.blocks = nn.ModuleList(blocks)
        self.head = MaskedConv2d("B", 2 * width, 2 * width, 1, channels=groups)
        self.last = MaskedConv2d("B", 2 * width, outputs, 1, channels=groups)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """x: images in 0..1 [B, C, H, W], h: [B, E, H or 1, W or 1] -> [B, P, H, W]."""
        features = self.first(signed(x))  # what lies outside is grey, so the edges are seen
        for block in self.blocks:
            features = block(features, h)
        return self.last(self.head(features.relu()).relu())

    def walk(self, image: Tensor, h: Tensor | None = None) -> Iterator[Tensor]:
        """The outputs [B, P] at the places of `order`, while the caller fills the image [B, C, H, W] in."""
        batch, channels, height, width = image.shape
        first, head, last = (Stream(layer, batch, width) for layer in (self.first, self.head, self.last))
        blocks = [cast(Residual, block).walker(batch, height, width, h) for block in self.blocks]
        for y in range(height):
            for one in (first, head, last, *blocks):
                one.begin()
            for x in range(width):
                for _ in range(channels):
                    features = first.at(x, signed(image[:, :, y, x]))
                    for block in blocks:
                        features = block.at(x, features)
                    yield last.at(x, head.at(x, features.relu()).relu_())
                first.put(x, signed(image[:, :, y, x]))


class PixelCNN(Blocks):
    """Its receptive field has the blind spot of stacked masked convolutions, above and to the right of the pixel."""

    def __init__(
        self,
        shape: Shape,
        outputs: Size = 1,
        groups: Size = 1,
        condition: Annotated[int, Ge(0)] = 0,
        width: Size = 16,
        blocks: Size = 15,
    ) -> None:
        residual = (Residual(width, groups, condition) for _ in range(blocks))
        super().__init__(shape, outputs, groups, width, residual)


class Gated(nn.Module):
    """One layer of van den Oord et al. (2016b), fig. 2: a vertical and a horizontal stack, no blind spot."""

    def __init__(self, before: int, width: int, size: int, groups: int, condition: int, first: bool) -> None:
        super().__init__()
        self.groups, self.first = groups, first
        self.vertical = Above(before if first else width, 2 * width, size, strict=first)
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        kind: Literal["A", "B"] = "A" if first else "B"
        self.horizontal = MaskedConv2d(kind, before if first else width, 2 * width, size, rows=0, channels=groups)
        self.out = MaskedConv2d("B", width, width, 1, channels=groups)
        self.condition, self.condition_across = Condition(condition, 2 * width), Condition(condition, 2 * width)

    def forward(self, v: Tensor, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Vertical and horizontal features [B, F, H, W] each -> the same."""
        up = self.vertical(v)
        across = self.condition_across(self.horizontal(x) + self.link(up), h)
        out = self.out(gate(across, self.groups))
        return gate(self.condition(up, h), 1), out if self.first else x + out


class GatedPixelCNN(nn.Module):
    """van den Oord et al. (2016b): all pixels above, and left in the row, without a blind spot; gated units (eq. 2)."""

    order: Tensor

    def __init__(
        self,
        shape: Shape,
        outputs: Size = 1,
        groups: Size = 1,
        condition: Annotated[int, Ge(0)] = 0,
        width: Size = 32,
        blocks: Size = 6,
        size: Annotated[int, Ge(3)] = 3,
    ) -> None:
        super().__init__()
        equal_groups(width, groups)
        self.groups = groups
        self.register_buffer("order", raster(shape), persistent=False)
        sizes = [7, *[size] * blocks]
        self.layers = nn.ModuleList(
            Gated(shape[0], width, taps, groups, condition, first=i == 0) for i, taps in enumerate(sizes)
        )
        self.head = MaskedConv2d("B", width, width, 1, channels=groups)
        self.last = MaskedConv2d("B", width, outputs, 1, channels=groups)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """x: images in 0..1 [B, C, H, W], h: [B, E, H or 1, W or 1] -> [B, P, H, W]."""
        v = x = signed(x)
        for layer in self.layers:
            v, x = layer(v, x, h)
        return self.last(self.head(x.relu()).relu())

    def walk(self, image: Tensor, h: Tensor | None = None) -> Iterator[Tensor]:
        """The outputs [B, P] at the places of `order`, while the caller fills the image [B, C, H, W] in."""
        batch, channels, height, width = image.shape
        stream, layers = streams(self, batch, width), cast("list[Gated]", list(self.layers))
        rows = [Rows(layer.vertical, batch, width) for layer in layers]
        added = [
            (layer.condition.rows(h, height, width), layer.condition_across.rows(h, height, width)) for layer in layers
        ]
        above = torch.zeros_like(image[:, :, 0])
        for y in range(height):
            for one in stream.values():
                one.begin()
            for layer, row, (down, across) in zip(layers, rows, added, strict=True):
                up, extra, beside = row.at(above), down[y], across[y]
                link = layer.link(up[:, :, None])[:, :, 0].permute(2, 0, 1)
                stream[layer.horizontal].begin(link if beside is None else link + beside)
                above = gate(up if extra is None else up + extra.permute(1, 2, 0), 1)
            for x in range(width):
                for _ in range(channels):
                    features = signed(image[:, :, y, x])
                    for layer in layers:
                        inner = gate(stream[layer.horizontal].at(x, features), self.groups)
                        out = stream[layer.out].at(x, inner)
                        features = out if layer.first else features + out
                    yield stream[self.last].at(x, stream[self.head].at(x, features.relu()).relu_())
                stream[layers[0].horizontal].put(x, signed(image[:, :, y, x]))
            above = signed(image[:, :, y])
