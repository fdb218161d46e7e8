"""Batches in an order, and with noise, that depend on (seed, epoch, position) alone, so any place can be revisited."""

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dgm.data.sets import Batch, Set

Augment = Callable[[Tensor, torch.Generator], Tensor]


def fold(*numbers: int) -> int:
    """One 63-bit seed out of several numbers, well mixed."""
    digest = hashlib.blake2b(" ".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*numbers: int) -> torch.Generator:
    """A generator seeded by `fold`."""
    return torch.Generator().manual_seed(fold(*numbers))


class Request(NamedTuple):
    """Rows to fetch [B], and the seed of the noise that belongs to them."""

    rows: Tensor
    seed: int


class Order:
    """The batches of one process: an iterable of requests, shuffled anew each epoch.

    With several processes each gets every `world`-th row, and all get the same number of batches: the shards
    are disjoint and together are the data. `start` skips the batches of a resumed epoch that were already seen.
    """

    def __init__(self, n: int, batch_size: int, shuffle: bool, seed: int, rank: int = 0, world: int = 1) -> None:
        if n // world < math.ceil(math.ceil(n / world) / batch_size):
            raise ValueError(
                f"{n} images are too few for {world} processes in batches of {batch_size}; use fewer devices"
            )
        self.n, self.batch_size, self.shuffle = n, batch_size, shuffle
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return math.ceil(math.ceil(self.n / self.world) / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def rows(self) -> Tensor:
        """This process's rows in this epoch's order."""
        shuffled = self.shuffle
        order = torch.randperm(self.n, generator=generator(self.seed, self.epoch)) if shuffled else torch.arange(self.n)
        return order[self.rank :: self.world]

    def __iter__(self) -> Iterator[Request]:
        shard = self.rows()
        batches = shard.split(self.batch_size) if self.world == 1 else shard.tensor_split(len(self))
        start, self.start = self.start, 0
        for index in range(start, len(batches)):
            yield Request(batches[index], fold(self.seed, self.epoch, self.rank, index))


class Fetch(Dataset):
    """Fetches a whole batch for a request and, where asked, changes its images by the request's own noise."""

    def __init__(self, data: Set, augment: Augment | None) -> None:
        self.data, self.augment = data, augment

    def __getitem__(self, request: Request) -> Batch:
        batch = self.data.fetch(request.rows)
        if self.augment is not None:
            batch["image"] = self.augment(batch["image"], torch.Generator().manual_seed(request.seed))
        return batch


class Loader(DataLoader):
    """A loader without collation, one request in, one batch out, that knows where in its epoch it is."""

    def __init__(self, data: Dataset, order: Order, workers: int = 0, pin: bool = False) -> None:
        super().__init__(
            data,
            batch_size=None,
            sampler=order,
            num_workers=workers,
            pin_memory=pin,
            persistent_workers=workers > 0,
        )
        self.order, self.served = order, 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.served = self.order.start
        plain = self.num_workers == 0 and not self.pin_memory  # torch's iterator would only add its own cost
        for batch in map(self.dataset.__getitem__, self.order) if plain else super().__iter__():
            self.served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its batches were handed out, whatever workers have fetched ahead."""
        return {"epoch": self.order.epoch, "served": self.served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the last batch that was handed out; behind the last of an epoch begins the next."""
        finished, self.order.start = divmod(state["served"], len(self.order))
        self.order.epoch = state["epoch"] + finished


def loader(data: Set, order: Order, augment: Augment | None = None, workers: int = 0, pin: bool = False) -> Loader:
    """Batches of a set in an order."""
    return Loader(Fetch(data, augment), order, workers, pin)
