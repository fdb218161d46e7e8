"""Dilated causal convolutions over a sequence, which is an image of one row: [B, C, 1, T].

Shapes: B batch, C channels, T samples, P outputs per sample, E condition, F features, S skip features.
"""

from collections.abc import Iterator
from typing import Annotated, cast

import torch
from annotated_types import Ge
from torch import Tensor, nn

from dgm.images import signed
from dgm.nn.masked import Condition, MaskedConv2d, Shape, Size, gate, raster


class Dilated(nn.Module):
    """One layer of van den Oord et al. (2016c), fig. 4: two taps `dilation` apart, gated; what it adds, and a skip."""

    def __init__(self, width: int, skip: int, dilation: int, condition: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.past, self.now = nn.Conv2d(width, 2 * width, 1, bias=False), nn.Conv2d(width, 2 * width, 1)
        self.condition = Condition(condition, 2 * width)
        self.out, self.skip = nn.Conv2d(width, width, 1), nn.Conv2d(width, skip, 1)

    def forward(self, x: Tensor, earlier: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features now and `dilation` samples ago, [B, F, 1, T] each -> features, skip [B, S, 1, T]."""
        inner = gate(self.condition(self.past(earlier) + self.now(x), h), 1)
        return x + self.out(inner), self.skip(inner)


class WaveNet(nn.Module):
    """van den Oord et al. (2016c): the receptive field doubles with each layer of a cycle."""

    order: Tensor

    def __init__(
        self,
        shape: Shape,
        outputs: Size = 256,
        groups: Size = 1,
        condition: Annotated[int, Ge(0)] = 0,
        width: Size = 32,
        skip: Size = 64,
        layers: Size = 8,
        cycles: Size = 2,
    ) -> None:
        super().__init__()
        if shape[0] != 1 or shape[1] != 1:
            raise ValueError(f"shape={list(shape)}: a WaveNet takes sequences [1, 1, T]; choose other data")
        self.register_buffer("order", raster(shape), persistent=False)
        self.first = MaskedConv2d("A", 1, width, 3, rows=0)
        self.layers = nn.ModuleList(Dilated(width, skip, 2**i, condition) for _ in range(cycles) for i in range(layers))
        self.head, self.last = nn.Conv2d(skip, skip, 1), nn.Conv2d(skip, outputs, 1)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """x: [B, 1, 1, T], h: [B, E, 1, T or 1] -> [B, P, 1, T]."""
        features, skips = self.first(signed(x)), []
        for layer in cast("list[Dilated]", list(self.layers)):
            earlier = nn.functional.pad(features, (layer.dilation, 0))[..., : x.shape[3]]
            features, skip = layer(features, earlier, h)
            skips.append(skip)
        return self.last(self.head(torch.stack(skips).sum(0).relu()).relu())

    def walk(self, image: Tensor, h: Tensor | None = None) -> Iterator[Tensor]:
        """The outputs [B, P] sample by sample, while the caller fills in [B, 1, 1, T] (Le Paine et al., 2016)."""
        layers = cast("list[Dilated]", list(self.layers))
        queues = [image.new_zeros(layer.dilation, len(image), layer.now.in_channels, 1, 1) for layer in layers]
        before, pad = (image.new_zeros(len(image), 1, 1, 1) for _ in range(2))
        for t in range(image.shape[3]):
            now = None if h is None else h[..., min(t, h.shape[3] - 1)][..., None]
            features, skips = self.first(torch.cat([before, pad], 3))[..., 1:], []
            for layer, queue in zip(layers, queues, strict=True):
                earlier = queue[t % layer.dilation].clone()
                queue[t % layer.dilation] = features
                features, skip = layer(features, earlier, now)
                skips.append(skip)
            yield self.last(self.head(torch.stack(skips).sum(0).relu()).relu())[:, :, 0, 0]
            before = signed(image[..., t : t + 1])
