"""The fixed recipe of the classifier in whose features samples are compared: the data set's own, and small.

It is trained on the CPU with its own noise, so that a data set has one classifier wherever it is evaluated.
Shapes: N training images, B batch, C channels, H height, W width, L classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgm.images import signed, unit

VERSION = 2  # to be raised with any change below: cached classifiers of another version are not used
LIMIT = 50_000  # training images
FEATURES = 64
BATCH = 128
UPDATES = 600  # or EPOCHS, whichever is more
EPOCHS = 5
RATE = 1e-3


def chosen(n: int, limit: int, seed: int = 0) -> Tensor:
    """Indices of all of n rows, or of `limit` after a seeded shuffle."""
    if n <= limit:
        return torch.arange(n)
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:limit]


def network(shape: Sequence[int], classes: int) -> nn.Sequential:
    """Index 0: convolutions that halve [C, H, W] to about 4 x 4, one more, 64 features; index 1: logits."""
    channels, h, w = shape
    layers: list[nn.Module] = []
    while min(h, w) >= 6:
        width = 16 if min(h, w) > 16 else 32  # large maps are where the time goes
        layers += _block(channels, width, stride=2)
        channels, h, w = width, -(-h // 2), -(-w // 2)
    layers += _block(channels, 64, stride=1)
    body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * h * w, FEATURES), nn.ReLU())
    for module in body.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return nn.Sequential(body, nn.Linear(FEATURES, classes))


def _block(channels: int, width: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 3, stride, padding=1), nn.GroupNorm(8, width), nn.ReLU()]


def train(images: Tensor, labels: Tensor, classes: int) -> nn.Sequential:
    """images: uint8 [N, C, H, W], labels: int64 [N] -> a trained network; the caller's noise is untouched."""
    rows = chosen(len(images), LIMIT)
    images, labels = images[rows], labels[rows]
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(0)
        model = network(images.shape[1:], classes)
        batches = _batches(len(images), generator)
        optimizer = torch.optim.Adam(model.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, len(batches))
        for batch in batches:
            optimizer.zero_grad()
            x = _shifted(inputs(images[batch]), generator)
            F.cross_entropy(model(x), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return model.eval().requires_grad_(False)


def inputs(images: Tensor) -> Tensor:
    """uint8 -> what the network sees, -1..1."""
    return signed(unit(images))


def _batches(n: int, generator: torch.Generator) -> list[Tensor]:
    """Rows of every update: epoch after epoch, each in a new order."""
    updates = max(UPDATES, EPOCHS * n // BATCH)
    epochs = -(-updates * BATCH // n)
    rows = torch.cat([torch.randperm(n, generator=generator) for _ in range(epochs)])
    return list(rows.split(BATCH)[:updates])


def _shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """A batch [B, C, H, W] moved by at most one pixel each way."""
    h, w = x.shape[-2:]
    top, left = torch.randint(0, 3, (2,), generator=generator).tolist()
    return F.pad(x, (1, 1, 1, 1), mode="replicate")[..., top : top + h, left : left + w]
