"""What a metric is given and what it gives back. Shapes: B batch, C channels, H height, W width."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

Split = Literal["train", "val", "test"]
Say = Callable[[str], None]


class Rows(Protocol):
    """A data set that is read by whole batches."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def fetch(self, indices: Tensor) -> dict[str, Tensor]:
        """Indices [B] -> {"image": uint8 [B, C, H, W]} or {"point": float [B, D]}, with label if known."""
        ...


class Source(Protocol):
    """What a metric may ask of a data module."""

    name: str
    classes: int
    binarise: Any

    def raw(self, split: Split) -> Rows:
        """A split as its source gives it, not binarised."""
        ...

    def set(self, split: Split) -> Rows:
        """A split as a model sees it."""
        ...

    def size(self, split: Split) -> int:
        """Images in a split."""
        ...

    def fingerprint(self) -> str:
        """Hash of the training and test content."""
        ...


@dataclass(frozen=True)
class Report:
    """Named values, the protocol that says how they came about, and lists that belong to them."""

    values: dict[str, float]
    protocol: dict[str, str | int | float]
    arrays: dict[str, list[float]] = field(default_factory=dict)


class Metric(Protocol):
    """Anything that measures a model against data; `say` hears of long work."""

    def __call__(self, model: nn.Module, data: Source, device: torch.device, say: Say | None = None) -> Report:
        """Measure; the model's mode and every random state are as before afterwards."""
        ...
