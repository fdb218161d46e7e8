"""Masked layers, from which networks are built whose output at a pixel depends on earlier pixels only.

Such a network is made with the shape of the images, the numbers per pixel that the likelihood takes (`outputs`), the
colours of a pixel that it must tell apart (`groups`: C, or 1 where the likelihood does so) and the channels of its
condition; it is called with images and, where it is conditional, with a map of one vector for all pixels or one each.
It has `order`, the values of an image as places in [C, H, W] in the order of their generation, and may have `walk`,
which gives its output place by place while the caller fills in the image, and repeats no work. One that holds several
`members` gives each as a network by `member(index)`.

Shapes: B batch, C colours, H height, W width, D = C H W values, P outputs, E condition, I inputs, O outputs of a layer.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from annotated_types import Ge, MinLen
from torch import Tensor, nn

Size = Annotated[int, Ge(1)]
Shape = Annotated[list[Size], MinLen(1)]


def raster(shape: Sequence[int]) -> Tensor:
    """Row by row, pixel by pixel, colour by colour: the places of [C, H, W] in that order, [D]."""
    channels, height, width = shape
    return torch.arange(channels * height * width, device="cpu").view(channels, -1).T.flatten()


def colours(size: int, channels: int) -> Tensor:
    """The colour that each of `size` features belongs to, in equal groups: [size]."""
    return torch.arange(size, device="cpu") * channels // size


class MaskedLinear(nn.Linear):
    """A linear layer of which only the weights under one of its masks [M, O, I] are there."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[2], mask.shape[1])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, member: int = 0) -> Tensor:
        """[B, I] -> [B, O]."""
        return F.linear(x, self.weight * self.mask[member], self.bias)


class MaskedConv2d(nn.Conv2d):
    """A convolution over `rows` rows above (all columns within `size`), and over the same row up to the pixel.

    At the pixel itself kind A sees earlier colours, kind B its own as well; features are split into one group for each
    of `channels` colours (van den Oord et al., 2016, sec. 3.4). Rows below are not stored.
    """

    mask: Tensor

    def __init__(
        self,
        kind: Literal["A", "B"],
        before: int,
        after: int,
        size: int = 1,
        rows: int | None = None,
        channels: int = 1,
        stride: int = 1,
    ) -> None:
        super().__init__(before, after, ((size // 2 if rows is None else rows) + 1, size), stride)
        self.rows, self.columns = self.kernel_size[0] - 1, size // 2
        self.padding = (self.rows, self.columns)
        mask = torch.ones(after, before, self.rows + 1, size)
        mask[:, :, -1, self.columns + 1 :] = 0
        own, seen = colours(after, channels)[:, None], colours(before, channels)
        mask[:, :, -1, self.columns] = (own >= seen if kind == "B" else own > seen).to(mask)
        self.register_buffer("mask", mask, persistent=False)
        nn.init.kaiming_uniform_(self.weight, nonlinearity="linear")  # variance 1 / inputs (LeCun et al., 1998, eq. 16)

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, H, W] -> [B, O, H, W], over the stride."""
        output = F.conv2d(x, self.weight * self.mask, self.bias, self.stride, self.padding)
        return output[:, :, : math.ceil(x.shape[2] / self.stride[0])]


class Above(nn.Conv2d):
    """A convolution over whole rows: `size // 2` above the pixel's, and with them, unless `strict`, its own."""

    def __init__(self, before: int, after: int, size: int, strict: bool = False, stride: int = 1) -> None:
        super().__init__(before, after, (size // 2 + (not strict), size), stride, padding=(0, size // 2))
        self.strict, self.rows = strict, size // 2
        nn.init.kaiming_uniform_(self.weight, nonlinearity="linear")

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, H, W] -> [B, O, H, W], over the stride."""
        output = super().forward(F.pad(x, (0, 0, self.rows, 0)))
        return output[:, :, : math.ceil(x.shape[2] / self.stride[0])]


class Stream:
    """A masked convolution fed pixel by pixel: what lies above enters once per row, and nothing is computed twice.

    Of a strided one it gives the output at every pixel, from which the caller takes what it needs.
    """

    def __init__(self, layer: MaskedConv2d, batch: int, width: int) -> None:
        weight = (layer.weight * layer.mask).detach()
        self.left = weight[:, :, -1, : layer.columns + 1].permute(2, 1, 0).flatten(0, 1)  # [taps I, O]
        self.above, self.bias, self.width = weight[:, :, :-1], cast(Tensor, layer.bias), width
        self.rows, self.taps, self.columns = layer.rows, layer.columns + 1, layer.columns
        self.row = weight.new_zeros(batch, self.columns + width, layer.in_channels)
        self.past = weight.new_zeros(batch, layer.in_channels, layer.rows, width)
        self.started = False

    def begin(self, added: Tensor | None = None) -> None:
        """A new row, to whose outputs is added [W, B, O]."""
        self.sums = self.bias.expand(self.width, 1, -1)
        if self.rows:
            if self.started:
                latest = self.row[:, self.columns :].transpose(1, 2)[:, :, None]
                self.past = torch.cat([self.past[:, :, 1:], latest], 2)
            self.sums = F.conv2d(self.past, self.above, self.bias, padding=(0, self.columns))[:, :, 0].permute(2, 0, 1)
        if added is not None:
            self.sums = self.sums + added
        self.sums, self.started = self.sums.contiguous(), True

    def put(self, x: int, value: Tensor) -> None:
        """The layer's input at column x of this row: [B, I]."""
        self.row[:, self.columns + x] = value

    def at(self, x: int, value: Tensor) -> Tensor:
        """The layer's output at column x of this row, given its input there: [B, I] -> [B, O]."""
        if self.columns or self.rows:
            self.put(x, value)
            value = self.row[:, x : x + self.taps].flatten(1)
        return torch.addmm(self.sums[x], value, self.left)


class Rows:
    """A convolution over whole rows fed row by row."""

    def __init__(self, layer: Above, batch: int, width: int) -> None:
        self.layer = layer
        kept = layer.rows - layer.strict  # rows before the one that is handed in
        self.past = layer.weight.new_zeros(batch, layer.in_channels, kept + 1, width)

    def at(self, row: Tensor) -> Tensor:
        """The layer's output at the next row; its input is that row, or of a strict layer the row before.

        [B, I, W] -> [B, O, W].
        """
        self.past = torch.cat([self.past[:, :, 1:], row[:, :, None]], 2)
        layer = self.layer
        return F.conv2d(self.past, layer.weight, layer.bias, padding=layer.padding)[:, :, 0]


class Condition(nn.Module):
    """Adds to features what a condition of E channels says, where there is one (E > 0)."""

    def __init__(self, condition: int, size: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(condition, size, 1, bias=False) if condition else None

    def forward(self, features: Tensor, h: Tensor | None) -> Tensor:
        """features: [B, size, H, W], h: [B, E, H or 1, W or 1] -> [B, size, H, W]."""
        return features if self.layer is None else features + self.layer(h)

    def rows(self, h: Tensor | None, height: int, width: int) -> list[Tensor | None]:
        """What is added in each row: H times [W, B, size], or nothing."""
        if self.layer is None:
            return [None] * height
        return list(self.layer(h).expand(-1, -1, height, width).permute(2, 3, 0, 1).unbind())


def gate(x: Tensor, groups: int) -> Tensor:
    """tanh times sigmoid, of the two halves of each colour's features: [B, 2F, ...] -> [B, F, ...]."""
    value, switch = x.unflatten(1, (groups, 2, -1)).unbind(2)
    return (value.tanh() * switch.sigmoid()).flatten(1, 2)


def streams(network: nn.Module, batch: int, width: int) -> dict[nn.Module, Stream]:
    """Every masked convolution of a network, ready for an image of that width."""
    return {m: Stream(m, batch, width) for m in network.modules() if isinstance(m, MaskedConv2d)}


def equal_groups(width: int, groups: int) -> None:
    """Features are shared out equally among the colours."""
    if width % groups:
        raise ValueError(f"width={width} is not a multiple of the {groups} colours; change it")
