"""Fully connected networks with masks. Shapes: B batch, C colours, H height, W width, D values, P outputs per pixel."""

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
    order of pixels than the raster's; `direct` adds weights straight from input to output (sec. 4.2).
    """

    order: Tensor

    def __init__(
        self,
        shape: Shape,
        hidden: list[Size],
        outputs: Size = 1,
        groups: Size = 1,
        condition: Annotated[int, Ge(0)] = 0,
        order_seed: Annotated[int, Ge(0)] | None = None,
        mask_seed: Annotated[int, Ge(0)] = 0,
        direct: bool = False,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.outputs, pixels = outputs, math.prod(shape[1:])
        places = torch.arange(math.prod(shape), device="cpu").view(shape[0], pixels)
        self.register_buffer("order", places[:, permutation(pixels, order_seed)].T.flatten(), persistent=False)
        rank = torch.argsort(self.order)  # when a value comes
        said = rank.view(shape[0], pixels)[colours(outputs, groups)].flatten()  # and what is said of it
        sizes = [len(rank), *hidden]
        degrees = [rank, *hidden_degrees(len(rank), hidden, mask_seed)]
        masks = [(after[:, None] >= before).float() for before, after in pairwise(degrees)]
        self.hidden = nn.ModuleList(MaskedLinear(mask) for mask in masks)
        self.conditions = nn.ModuleList(Condition(condition, size) for size in [*sizes[1:], len(said)])
        self.activation = activation()
        self.last = MaskedLinear((said[:, None] > degrees[-1]).float())
        self.direct = MaskedLinear((said[:, None] > rank).float()) if direct and hidden else None

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """x: [B, C, H, W], h: [B, E, 1, 1] -> [B, P, H, W]."""
        flat = features = x.flatten(1)
        *inner, outer = self.conditions
        for layer, condition in zip(self.hidden, inner, strict=True):
            features = self.activation(added(condition, layer(features), h))
        output = added(outer, self.last(features), h)
        if self.direct is not None:
            output = output + self.direct(flat)
        return output.view(len(x), self.outputs, *x.shape[2:])


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
