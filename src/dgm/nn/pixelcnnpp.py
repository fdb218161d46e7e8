"""PixelCNN++: two streams at several resolutions with shortcuts between them.

The stream `u` sees all rows above, `l` also what is left in the row. Shapes: B batch, C colours, H height, W width,
P outputs per pixel, E condition, F features.
"""

from collections.abc import Iterator
from typing import Annotated, NamedTuple, cast

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor, nn

from dgm.images import signed
from dgm.nn.masked import Above, Condition, MaskedConv2d, Rows, Shape, Size, Stream, raster


class Pair(NamedTuple):
    """Features of the two streams: [B, F, H, W] each, or a row and a pixel of them."""

    u: Tensor
    l: Tensor  # noqa: E741


def both(x: Tensor) -> Tensor:
    """ELU of x and of -x, side by side (sec. 3): [B, F, ...] -> [B, 2F, ...]."""
    return F.elu(torch.cat([x, -x], 1))


class Half(nn.Module):
    """A gated residual block of one stream (sec. 2.4, fig. 2); `side` features enter after the first convolution."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d, side: int, dropout: float, condition: Condition) -> None:
        super().__init__()
        self.first, self.second, self.condition = first, second, condition
        self.side = nn.Conv2d(2 * side, second.out_channels // 2, 1) if side else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, side: Tensor | None, h: Tensor | None) -> Tensor:
        """[B, F, H, W] -> the same."""
        inner = self.first(both(x))
        if self.side is not None and side is not None:
            inner = inner + self.side(both(side))
        return gated(x, self.condition(self.second(self.dropout(both(inner))), h))


class Block(nn.Module):
    """A gated residual block of both streams; on the way up it takes a shortcut from the way down."""

    def __init__(self, width: int, shortcut: bool, dropout: float, condition: int) -> None:
        super().__init__()
        above = [Above(2 * width, after, 3) for after in (width, 2 * width)]
        left = [MaskedConv2d("B", 2 * width, after, 3) for after in (width, 2 * width)]
        conditions = [Condition(condition, 2 * width) for _ in range(2)]
        self.u = Half(above[0], above[1], width if shortcut else 0, dropout, conditions[0])
        self.l = Half(left[0], left[1], 2 * width if shortcut else width, dropout, conditions[1])

    def forward(self, x: Pair, short: Pair | None, h: Tensor | None) -> Pair:
        """Both streams, and the shortcut where there is one."""
        u = self.u(x.u, short.u if short else None, h)
        return Pair(u, self.l(x.l, torch.cat([u, short.l], 1) if short else u, h))


class Down(nn.Module):
    """Half the resolution, by convolutions of stride 2 (sec. 2.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.u, self.l = Above(width, width, 3, stride=2), MaskedConv2d("B", width, width, 3, stride=2)

    def forward(self, x: Pair, short: Pair | None, h: Tensor | None) -> Pair:
        """[B, F, H, W] -> [B, F, H / 2, W / 2] each."""
        return Pair(self.u(x.u), self.l(x.l))


class Up(nn.Module):
    """Twice the resolution: four pixels from each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.u, self.l = (nn.Conv2d(width, 4 * width, 1) for _ in range(2))

    def forward(self, x: Pair, short: Pair | None, h: Tensor | None) -> Pair:
        """[B, F, H, W] -> [B, F, 2 H, 2 W] each."""
        return Pair(F.pixel_shuffle(self.u(x.u), 2), F.pixel_shuffle(self.l(x.l), 2))


class Step(NamedTuple):
    """What is done, at which level it ends, and of which earlier output it takes a shortcut."""

    kind: str
    level: int
    short: int | None = None


def plan(blocks: int, levels: int) -> list[Step]:
    """Down and up again; every output on the way down is handed to one block on the way up (fig. 2)."""
    steps: list[Step] = []
    for level in range(levels):
        steps += [Step("down", level)] * (level > 0) + [Step("block", level)] * blocks
    level_of = [0, *(step.level for step in steps)]
    waiting = list(range(len(steps)))  # the last output goes on by itself
    for level in reversed(range(levels)):
        steps += [Step("up", level)] * (level < levels - 1)
        while waiting and level_of[waiting[-1]] == level:
            steps.append(Step("shortcut", level, waiting.pop()))
    return steps


class BlockWalk:
    """A block row by row and pixel by pixel, on those of its level."""

    def __init__(self, block: Block, step: Step, batch: int, width: int, h: Tensor | None) -> None:
        self.block, self.level = block, step.level
        self.rows = [Rows(cast(Above, conv), batch, width) for conv in (block.u.first, block.u.second)]
        self.streams = [Stream(cast(MaskedConv2d, conv), batch, width) for conv in (block.l.first, block.l.second)]
        self.added = [half.condition.rows(h, 1, width)[0] for half in (block.u, block.l)]

    def row(self, y: int, u: Tensor, old: Tensor, short: Tensor | None) -> Tensor:
        """The upper stream's features of a row: [B, F, W] -> the same."""
        if y % 2**self.level:
            return old
        self.streams[0].begin()
        self.streams[1].begin(self.added[1])
        inner = self.rows[0].at(both(u))
        if short is not None and self.block.u.side is not None:
            inner = inner + self.block.u.side(both(short)[:, :, None])[:, :, 0]
        inner = self.rows[1].at(both(inner))
        return gated(u, inner if self.added[0] is None else inner + self.added[0].permute(1, 2, 0))

    def at(self, y: int, x: int, l: Tensor, u: Tensor, short: Tensor | None) -> Tensor:  # noqa: E741
        """The other stream's features of a pixel: [B, F] -> the same."""
        if y % 2**self.level or x % 2**self.level:
            return l
        x >>= self.level
        side = u[:, :, x] if short is None else torch.cat([u[:, :, x], short], 1)
        layer = cast(nn.Conv2d, self.block.l.side)
        inner = self.streams[0].at(x, both(l)) + F.linear(both(side), layer.weight.flatten(1), layer.bias)
        return gated(l, self.streams[1].at(x, both(inner)))


class DownWalk:
    """A halving, which looks at every row and pixel of the level before."""

    def __init__(self, down: Down, step: Step, batch: int, width: int, h: Tensor | None) -> None:
        self.level, self.rows, self.stream = (
            step.level,
            Rows(down.u, batch, 2 * width),
            Stream(down.l, batch, 2 * width),
        )

    def row(self, y: int, u: Tensor, old: Tensor, short: Tensor | None) -> Tensor:
        """[B, F, 2 W] -> [B, F, W]."""
        if y % 2 ** (self.level - 1):
            return old
        self.stream.begin()
        full = self.rows.at(u)
        return old if y % 2**self.level else full[:, :, ::2]

    def at(self, y: int, x: int, l: Tensor, u: Tensor, short: Tensor | None) -> Tensor:  # noqa: E741
        """[B, F] -> [B, F]."""
        if y % 2 ** (self.level - 1) or x % 2 ** (self.level - 1):
            return l
        return self.stream.at(x >> (self.level - 1), l)


class UpWalk:
    """A doubling: what a pixel gave is kept for the row below."""

    def __init__(self, up: Up, step: Step, batch: int, width: int, h: Tensor | None) -> None:
        self.up, self.level = up, step.level
        self.kept = [up.l.weight.new_zeros(0)] * (width // 2)

    def row(self, y: int, u: Tensor, old: Tensor, short: Tensor | None) -> Tensor:
        """[B, F, W / 2] -> [B, F, W]."""
        if y % 2**self.level:
            return old
        return F.pixel_shuffle(self.up.u(u[:, :, None]), 2)[:, :, (y >> self.level) % 2]

    def at(self, y: int, x: int, l: Tensor, u: Tensor, short: Tensor | None) -> Tensor:  # noqa: E741
        """[B, F] -> [B, F]."""
        if y % 2**self.level or x % 2**self.level:
            return l
        x, y = x >> self.level, y >> self.level
        if not (x % 2 or y % 2):
            four = F.linear(l, self.up.l.weight.flatten(1), self.up.l.bias)
            self.kept[x // 2] = four.unflatten(1, (-1, 2, 2))
        return self.kept[x // 2][:, :, y % 2, x % 2]


WALKERS: dict[type, type] = {Block: BlockWalk, Down: DownWalk, Up: UpWalk}


def gated(x: Tensor, inner: Tensor) -> Tensor:
    """x and what passes the gate: [B, F, ...], [B, 2F, ...] -> [B, F, ...]."""
    value, switch = inner.chunk(2, 1)
    return x + value * switch.sigmoid()


class PixelCNNPlusPlus(nn.Module):
    """Salimans et al. (2017): `blocks` gated residual blocks at each of `levels` resolutions, down and up again."""

    order: Tensor

    def __init__(
        self,
        shape: Shape,
        outputs: Size = 1,
        groups: Size = 1,
        condition: Annotated[int, Ge(0)] = 0,
        width: Size = 32,
        blocks: Size = 2,
        levels: Size = 3,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.5,
    ) -> None:
        super().__init__()
        if groups > 1:
            raise ValueError(
                "PixelCNN++ says something of a pixel, not of its colours; use likelihood=logistic_mixture"
            )
        if any(size % 2 ** (levels - 1) for size in shape[1:]):
            raise ValueError(f"levels={levels}: {shape[1]} x {shape[2]} cannot be halved {levels - 1} times; lower it")
        self.register_buffer("order", raster(shape), persistent=False)
        self.first_u, self.first_l = Above(shape[0], width, 3, strict=True), MaskedConv2d("A", shape[0], width, 3)
        self.plan = plan(blocks, levels)
        made = {
            "down": lambda: Down(width),
            "up": lambda: Up(width),
            "block": lambda: Block(width, False, dropout, condition),
            "shortcut": lambda: Block(width, True, dropout, condition),
        }
        self.steps = nn.ModuleList(made[step.kind]() for step in self.plan)
        self.last = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """x: images in 0..1 [B, C, H, W], h: [B, E, 1, 1] -> [B, P, H, W]."""
        x = signed(x)  # what lies outside is grey
        features = [Pair(self.first_u(x), self.first_l(x))]
        for module, step in zip(self.steps, self.plan, strict=True):
            features.append(module(features[-1], None if step.short is None else features[step.short], h))
        return self.last(F.elu(features[-1].l))

    def walk(self, image: Tensor, h: Tensor | None = None) -> Iterator[Tensor]:
        """The outputs [B, P] at the places of `order`, while the caller fills the image [B, C, H, W] in."""
        batch, channels, height, width = image.shape
        walkers = [
            WALKERS[type(module)](module, step, batch, width >> step.level, h)
            for module, step in zip(self.steps, self.plan, strict=True)
        ]
        rows, stream = Rows(self.first_u, batch, width), Stream(self.first_l, batch, width)
        weight, bias = self.last.weight.flatten(1).T, cast(Tensor, self.last.bias)
        above = torch.zeros_like(image[:, :, 0])
        us, ls = [above] * (1 + len(walkers)), [above] * (1 + len(walkers))
        for y in range(height):
            us[0] = rows.at(above)
            for i, (walker, step) in enumerate(zip(walkers, self.plan, strict=True)):
                us[i + 1] = walker.row(y, us[i], us[i + 1], None if step.short is None else us[step.short])
            stream.begin()
            for x in range(width):
                ls[0] = stream.at(x, signed(image[:, :, y, x]))
                for i, (walker, step) in enumerate(zip(walkers, self.plan, strict=True)):
                    ls[i + 1] = walker.at(y, x, ls[i], us[i + 1], None if step.short is None else ls[step.short])
                output = torch.addmm(bias, F.elu(ls[-1]), weight)
                for _ in range(channels):  # all colours of a pixel are drawn from the same
                    yield output
                stream.put(x, signed(image[:, :, y, x]))
            above = signed(image[:, :, y])
