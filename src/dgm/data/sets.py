"""What a data set is here: something with a length that fetches a whole batch by its indices.

A source is a function that returns `Splits`; that function and one yaml are all that a new data set takes.
Shapes: N images in a set, B batch, C channels, H height, W width, K factors.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Batch = dict[str, Tensor]


class Set(Protocol):
    """A data set that is read by whole batches."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def fetch(self, indices: Tensor) -> Batch:
        """Indices [B] -> {"image": uint8 [B, C, H, W]} or {"point": float [B, D]}, with label, factors if known."""
        ...


class Splits(NamedTuple):
    """What a source returns. Validation images are taken from `train` by the data module."""

    train: Set
    test: Set


@dataclass(frozen=True)
class Arrays:
    """A set held in memory, one tensor [N, ...] per name.

    groups: [N] int64 where some rows belong together, as parts of one recording do: what is held out for validation
    shares no group with what is trained on.
    """

    tensors: dict[str, Tensor]
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = {name: len(tensor) for name, tensor in self.tensors.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"a data set needs as many labels as images, not {sizes}")

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def fetch(self, indices: Tensor) -> Batch:
        """Rows of every tensor: [N, ...] -> [B, ...]."""
        return {name: tensor.index_select(0, indices) for name, tensor in self.tensors.items()}


@dataclass(frozen=True)
class Subset:
    """Chosen rows of another set."""

    base: Set
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def fetch(self, indices: Tensor) -> Batch:
        """The rows behind the indices [B]."""
        return self.base.fetch(self.rows[indices])


def subset(base: Set, rows: Tensor) -> Set:
    """Chosen rows; a set in memory is cut once, any other is looked up through an index."""
    return Arrays(base.fetch(rows)) if isinstance(base, Arrays) else Subset(base, rows)


def whole(data: Set, limit: int | None = None) -> Batch:
    """The first `limit` rows, or all, as one batch."""
    return data.fetch(torch.arange(len(data) if limit is None else min(limit, len(data))))


def fingerprint(data: Set) -> str:
    """Hash of the content: of all rows held in memory, else of 1,000 rows spread over the set."""
    rows = torch.arange(len(data)) if isinstance(data, Arrays) else torch.linspace(0, len(data) - 1, 1000).long()
    digest = hashlib.blake2b(str(len(data)).encode(), digest_size=8)
    for name, tensor in sorted(data.fetch(rows).items()):
        digest.update(name.encode() + str(tuple(tensor.shape)).encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
