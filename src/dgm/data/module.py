"""The data module: splits, binarisation, shards and loaders of any source. Shapes: C channels, H height, W width."""

from collections.abc import Callable
from typing import Annotated, Literal

import pytorch_lightning as pl
import torch
from annotated_types import Ge
from torch import Tensor
from torch.utils.data import DataLoader

from dgm.data.binarise import Binarisation, stochastic, threshold
from dgm.data.loading import Order, generator, loader
from dgm.data.sets import Arrays, Set, Splits, fingerprint, subset

Split = Literal["train", "val", "test"]

FIXED = 1309  # published seed of every draw that must never change: the validation split, fixed binarisation


class Data(pl.LightningDataModule):
    """Serves `source` by whole batches of uint8 images, or of float points.

    val: training images held out to choose by, drawn after a seeded shuffle that is the same in every run;
    limit: training images used, drawn likewise; binarise: `dynamic` draws anew each time in training, while
    validation and test keep one published draw; `static` keeps one for training too; batch_size: per process.
    """

    def __init__(
        self,
        name: str,
        shape: Annotated[list[Annotated[int, Ge(1)]], "[C, H, W], or [D] for points"],
        source: Callable[[], Splits],
        classes: Annotated[int, Ge(0)] = 0,
        root: str | None = None,
        val: Annotated[int, Ge(0)] = 0,
        limit: Annotated[int, Ge(1)] | None = None,
        binarise: Binarisation = "none",
        batch_size: Annotated[int, Ge(1)] = 128,
        eval_batch_size: Annotated[int, Ge(1)] = 500,
        workers: Annotated[int, Ge(0)] = 0,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self.name, self.shape, self.classes, self.source = name, tuple(shape), classes, source
        self.val, self.limit, self.binarise = val, limit, binarise
        self.batch_size, self.eval_batch_size, self.workers, self.seed = (
            batch_size,
            eval_batch_size,
            workers,
            seed,
        )
        self._raw: dict[Split, Set] = {}
        self._sets: dict[Split, Set] = {}

    def prepare_data(self) -> None:
        """Download, in one process only, what is missing."""
        if not self._raw:
            self.raw("train")

    def raw(self, split: Split) -> Set:
        """A split as its source gives it, not binarised. `val` is empty where none is held out."""
        if not self._raw:
            train, test = self.source()
            self._check(train)
            held, rest = held_out(self.val, len(train), getattr(train, "groups", None))
            if not len(rest):
                raise ValueError(f"data.val={self.val} leaves nothing of {len(train)} training images; lower it")
            self._raw = {
                "train": subset(train, rest[: self.limit].sort().values),
                "val": subset(train, held.sort().values),
                "test": test,
            }
        return self._raw[split]

    def set(self, split: Split) -> Set:
        """A split as a model sees it."""
        if split not in self._sets:
            self._sets[split] = self._binarised(self.raw(split), split)
        return self._sets[split]

    def size(self, split: Split) -> int:
        """Images in a split."""
        return len(self.raw(split))

    def fingerprint(self) -> str:
        """Hash of the training and test content."""
        return fingerprint(self.raw("train")) + fingerprint(self.raw("test"))

    def loader(self, split: Split, shuffle: bool = False, batch_size: int | None = None) -> DataLoader:
        """Batches of a split for this process."""
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        pin = trainer is not None and trainer.strategy.root_device.type == "cuda"
        data = self.set(split)
        order = Order(len(data), batch_size or self.eval_batch_size, shuffle, self.seed, rank, world)
        redraw = stochastic if self.binarise == "dynamic" and split == "train" else None
        return loader(data, order, redraw, self.workers, pin)

    def train_dataloader(self) -> DataLoader:
        """Shuffled training batches, as many at once as an update of the model takes."""
        model = getattr(self.trainer, "lightning_module", None)
        return self.loader("train", shuffle=True, batch_size=self.batch_size * getattr(model, "batches", 1))

    def val_dataloader(self) -> DataLoader | list:
        """Validation batches, none where nothing is held out."""
        return self.loader("val") if self.val else []

    def test_dataloader(self) -> DataLoader:
        """Test batches."""
        return self.loader("test")

    def _check(self, data: Set) -> None:
        first = data.fetch(torch.zeros(1, dtype=torch.long))
        got = tuple(first["image" if "image" in first else "point"].shape[1:])
        if got != self.shape:
            raise ValueError(
                f"data.shape={list(self.shape)} but the images of {self.name} are {list(got)}; set data.shape"
            )
        if self.binarise != "none" and "image" not in first:
            raise ValueError(f"data.binarise={self.binarise} needs images, and {self.name} has points; use none")

    def _binarised(self, data: Set, split: Split) -> Set:
        if self.binarise == "none" or (self.binarise == "dynamic" and split == "train") or not len(data):
            return data
        if not isinstance(data, Arrays):
            raise ValueError(
                f"data.binarise={self.binarise} needs a set held in memory, {self.name} is drawn on demand"
            )
        image = data.tensors["image"]
        draw = generator(FIXED, ("train", "val", "test").index(split))
        binary = threshold(image) if self.binarise == "threshold" else stochastic(image, draw)
        return Arrays(data.tensors | {"image": binary})


def held_out(n: int, size: int, groups: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows for validation [n], and shuffled rows to train on, of `size` rows; what shares a group with the first is in
    neither. The same in every run."""
    draw = generator(FIXED)
    if groups is None:
        order = torch.randperm(size, generator=draw)
        return order[:n], order[n:]
    order = torch.randperm(int(groups.max()) + 1, generator=draw)[groups].argsort(stable=True)
    held, rest = order[:n], order[n:]
    rest = rest[~torch.isin(groups[rest], groups[held])]
    return held, rest[torch.randperm(len(rest), generator=draw)]
