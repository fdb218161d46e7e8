"""PixelRNN: the state of an LSTM runs down the rows, or along the diagonals in two directions.

All that does not wait for the state is computed for the whole image at once. The four gates of each colour's features
lie together. Shapes: B batch, C colours, H height, W width, P outputs per pixel, E condition, F features.
"""

from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from dgm.nn.masked import Condition, MaskedConv2d, Shape, Size, Stream
from dgm.nn.pixelcnn import Blocks, Walker


def cell(gates: Tensor, c: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """One step of an LSTM (eq. 3): gates [B, 4F, ...], memory [B, F, ...] -> state, memory."""
    o, f, i, g = gates.unflatten(1, (groups, 4, -1)).unbind(2)
    c = f.sigmoid() * c.unflatten(1, (groups, -1)) + i.sigmoid() * g.tanh()
    return (o.sigmoid() * c.tanh()).flatten(1, 2), c.flatten(1, 2)


class RowLSTM(nn.Module):
    """van den Oord et al. (2016), sec. 3.1: the state of a row comes from three pixels of the row above."""

    def __init__(self, width: int, groups: int, condition: int) -> None:
        super().__init__()
        self.groups, self.width = groups, width
        self.input = MaskedConv2d("B", 2 * width, 4 * width, 3, rows=0, channels=groups)
        self.state = nn.Conv1d(width, 4 * width, 3, padding=1, bias=False)
        self.condition = Condition(condition, 4 * width)
        self.out = MaskedConv2d("B", width, 2 * width, 1, channels=groups)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """[B, 2F, H, W] -> the same."""
        gates = self.condition(self.input(x), h)
        state = memory = gates.new_zeros(len(x), self.width, x.shape[3])
        states = []
        for row in gates.unbind(2):
            state, memory = cell(row + self.state(state), memory, self.groups)
            states.append(state)
        return x + self.out(torch.stack(states, 2))

    def walker(self, batch: int, height: int, width: int, h: Tensor | None) -> Walker:
        """This layer pixel by pixel."""
        return RowWalker(self, batch, height, width, h)


class RowWalker:
    """A row LSTM pixel by pixel."""

    def __init__(self, layer: RowLSTM, batch: int, height: int, width: int, h: Tensor | None) -> None:
        self.layer, self.added = layer, iter(layer.condition.rows(h, height, width))
        self.input, self.out = Stream(layer.input, batch, width), Stream(layer.out, batch, width)
        weight = layer.input.weight
        self.state, self.memory, self.before = (weight.new_zeros(batch, layer.width, width) for _ in range(3))

    def begin(self) -> None:
        """The row above is complete: what its state gives to this one."""
        added, above = next(self.added), self.layer.state(self.state).permute(2, 0, 1)
        self.before = self.memory.clone()
        self.input.begin(above if added is None else above + added)
        self.out.begin()

    def at(self, x: int, features: Tensor) -> Tensor:
        """[B, 2F] -> the same."""
        state, memory = cell(self.input.at(x, features), self.before[:, :, x], self.layer.groups)
        self.state[:, :, x], self.memory[:, :, x] = state, memory
        return features + self.out.at(x, state)


class DiagonalBiLSTM(nn.Module):
    """van den Oord et al. (2016), sec. 3.2: along diagonals, from the left and the right corner at the top."""

    def __init__(self, width: int, groups: int, condition: int) -> None:
        super().__init__()
        self.groups, self.width = groups, width
        self.inputs = nn.ModuleList(MaskedConv2d("B", 2 * width, 4 * width, 1, channels=groups) for _ in range(2))
        self.states = nn.ModuleList(nn.Conv1d(width, 4 * width, 2, bias=False) for _ in range(2))  # above, beside
        self.conditions = nn.ModuleList(Condition(condition, 4 * width) for _ in range(2))
        self.out = MaskedConv2d("B", width, 2 * width, 1, channels=groups)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """[B, 2F, H, W] -> the same; what comes from the right is one row late, else it would see the future."""
        left, right = (c(i(x), h) for i, c in zip(self.inputs, self.conditions, strict=True))
        state = self.along(left, 0)
        late = self.along(right.flip(3), 1).flip(3)
        return x + self.out(state + F.pad(late, (0, 0, 1, 0))[:, :, :-1])

    def along(self, gates: Tensor, direction: int) -> Tensor:
        """States from the left corner: gates [B, 4F, H, W] -> [B, F, H, W]."""
        height, width = gates.shape[2:]
        skewed = skew(gates)
        inside = skew(torch.ones(1, 1, height, width, device=gates.device)) > 0
        state = memory = gates.new_zeros(len(gates), self.width, height)
        states = []
        for column, mask in zip(skewed.unbind(3), inside.unbind(3), strict=True):
            above = self.states[direction](F.pad(state, (1, 0)))
            state, memory = cell(column + above, memory, self.groups)
            state, memory = state * mask, memory * mask
            states.append(state)
        return unskew(torch.stack(states, 3))

    def walker(self, batch: int, height: int, width: int, h: Tensor | None) -> Walker:
        """This layer pixel by pixel."""
        return DiagonalWalker(self, batch, height, width, h)


class DiagonalWalker:
    """A diagonal BiLSTM pixel by pixel; the direction from the right takes a row when it is complete."""

    def __init__(self, layer: DiagonalBiLSTM, batch: int, height: int, width: int, h: Tensor | None) -> None:
        self.layer, self.width, self.x, self.y = layer, width, -1, -1
        inputs, conditions = list(layer.inputs), cast("list[Condition]", list(layer.conditions))
        self.inputs = [Stream(cast(MaskedConv2d, i), batch, width) for i in inputs]
        self.added = [c.rows(h, height, width) for c in conditions]
        self.out = Stream(layer.out, batch, width)
        states = [cast(nn.Conv1d, s).weight for s in layer.states]
        self.weights = [(w[:, :, 0].T, w[:, :, 1].T) for w in states]
        zeros = layer.out.weight.new_zeros
        self.row = zeros(width, batch, 2 * layer.width)  # features of this row
        self.state, self.late = (zeros(width, batch, layer.width) for _ in range(2))  # of the row above, or this
        self.nothing = zeros(batch, layer.width)
        self.beside = self.memory = self.left_state = self.left_memory = self.nothing

    def begin(self) -> None:
        """The row above is complete: run over it from the right."""
        if self.y >= 0:
            self.inputs[1].begin(self.added[1][self.y])
            state = memory = self.nothing
            for x in reversed(range(self.width)):
                above, beside = self.weights[1]
                gates = self.inputs[1].at(x, self.row[x]) + self.late[x] @ above + state @ beside
                state, memory = cell(gates, memory, self.layer.groups)
                self.late[x] = state
        self.x, self.y = -1, self.y + 1
        self.above = self.state.clone()
        self.inputs[0].begin(self.added[0][self.y])
        self.out.begin()
        self.left_state = self.left_memory = self.nothing

    def at(self, x: int, features: Tensor) -> Tensor:
        """[B, 2F] -> the same; asked again for a pixel, by its next colour, it starts from the same neighbours."""
        if x != self.x:
            self.left_state, self.left_memory = (self.nothing, self.nothing) if x == 0 else (self.beside, self.memory)
            self.x = x
        above, beside = self.weights[0]
        gates = self.inputs[0].at(x, features) + self.above[x] @ above + self.left_state @ beside
        self.beside, self.memory = cell(gates, self.left_memory, self.layer.groups)
        self.row[x], self.state[x] = features, self.beside
        return features + self.out.at(x, self.beside + self.late[x])


def skew(x: Tensor) -> Tensor:
    """Each row one column further right than the one above: [B, F, H, W] -> [B, F, H, W + H - 1]."""
    height, width = x.shape[2:]
    return F.pad(x, (0, height)).flatten(2)[:, :, : height * (width + height - 1)].unflatten(2, (height, -1))


def unskew(x: Tensor) -> Tensor:
    """The inverse of `skew`."""
    height = x.shape[2]
    width = x.shape[3] - height + 1
    return F.pad(x.flatten(2), (0, height)).unflatten(2, (height, -1))[..., :width]


LAYERS: dict[str, type[RowLSTM] | type[DiagonalBiLSTM]] = {"row": RowLSTM, "diagonal": DiagonalBiLSTM}


class PixelRNN(Blocks):
    """LSTM layers of one kind as blocks."""

    def __init__(
        self,
        shape: Shape,
        outputs: Size = 1,
        groups: Size = 1,
        condition: Annotated[int, Ge(0)] = 0,
        kind: Literal["row", "diagonal"] = "row",
        width: Size = 16,
        layers: Size = 4,
    ) -> None:
        recurrent = (LAYERS[kind](width, groups, condition) for _ in range(layers))
        super().__init__(shape, outputs, groups, width, recurrent)
