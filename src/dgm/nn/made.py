"""Fully connected networks with masks.

Shapes: B batch, C colours, H height, W width, D values, P outputs per pixel, M members, F features.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from dgm.nn.masked import Condition, MaskedLinear, Shape, Size, colours


class MADE(nn.Module):
    """Germain et al. (2015): an autoencoder masked so that what it says of a pixel depends on earlier pixels only.

    Without hidden layers a fully visible belief net (Frey, 1998): a regression per pixel. `order_seed` draws another
    order of pixels than the raster's; `direct` adds weights straight from input to output (sec. 4.2). `members` masks
    share the weights (sec. 4.3), and with an order seed each has an order of its own (sec. 4.1).
    """

    orders: Tensor

    def __init__(
        self,
        shape: Shape,
        hidden: list[Size],
        outputs: Size = 1,
        groups: Size = 1,
        condition: Annotated[int, Ge(0)] = 0,
        order_seed: Annotated[int, Ge(0)] | None = None,
        mask_seed: Annotated[int, Ge(0)] = 0,
        members: Size = 1,
        direct: bool = False,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.outputs, self.members, pixels = outputs, members, math.prod(shape[1:])
        places = torch.arange(math.prod(shape), device="cpu").view(shape[0], pixels)
        drawn = [permutation(pixels, None if order_seed is None else order_seed + m) for m in range(members)]
        self.register_buffer("orders", torch.stack([places[:, p].T.flatten() for p in drawn]), persistent=False)
        rank = torch.argsort(self.orders)  # when a value comes, [M, D]
        said = rank.view(members, shape[0], pixels)[:, colours(outputs, groups)].flatten(1)  # and what is said of it
        sizes = [rank.shape[1], *hidden]
        units = [hidden_degrees(sizes[0], hidden, mask_seed + m) for m in range(members)]
        degrees = [rank, *(torch.stack(layer) for layer in zip(*units, strict=True))]
        masks = [after[:, :, None] >= before[:, None] for before, after in pairwise(degrees)]
        self.hidden = nn.ModuleList(MaskedLinear(mask.float()) for mask in masks)
        self.conditions = nn.ModuleList(Condition(condition, size) for size in [*sizes[1:], said.shape[1]])
        self.activation = activation()
        self.last = MaskedLinear((said[:, :, None] > degrees[-1][:, None]).float())
        self.direct = MaskedLinear((said[:, :, None] > rank[:, None]).float()) if direct and hidden else None

    @property
    def order(self) -> Tensor:
        """Of the first member: [D]."""
        return self.orders[0]

    def forward(self, x: Tensor, h: Tensor | None = None, member: int = 0) -> Tensor:
        """x: [B, C, H, W], h: [B, E, 1, 1] -> [B, P, H, W]."""
        flat = features = x.flatten(1)
        *inner, outer = self.conditions
        for layer, condition in zip(self.hidden, inner, strict=True):
            features = self.activation(added(condition, layer(features, member), h))
        output = added(outer, self.last(features, member), h)
        if self.direct is not None:
            output = output + self.direct(flat, member)
        return output.view(len(x), self.outputs, *x.shape[2:])

    def member(self, index: int) -> "Member":
        """One of the ensemble, as a network of its own."""
        return Member(self, index)


class Member:
    """A network with the weights of an ensemble, one of its masks and its order."""

    def __init__(self, ensemble: MADE, index: int) -> None:
        self.ensemble, self.index, self.order = ensemble, index, ensemble.orders[index]

    def __call__(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """x: [B, C, H, W], h: [B, E, 1, 1] -> [B, P, H, W]."""
        return self.ensemble(x, h, self.index)


def added(condition: nn.Module, features: Tensor, h: Tensor | None) -> Tensor:
    """Features of the whole image [B, F] and what their condition adds."""
    return condition(features[:, :, None, None], h).flatten(1)


def permutation(n: int, seed: int | None) -> Tensor:
    """The order of the raster, or one drawn by a seed: [n]."""
    if seed is None:
        return torch.arange(n, device="cpu")
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")


def hidden_degrees(n: int, hidden: list[int], seed: int) -> list[Tensor]:
    """The last input that each hidden unit may see, none of a layer below the least of the layer before (eq. 13)."""
    generator, least, degrees = torch.Generator().manual_seed(seed), 0, []
    for size in hidden:
        degrees.append(torch.randint(least, max(least + 1, n - 1), (size,), generator=generator, device="cpu"))
        least = int(degrees[-1].min())
    return degrees
