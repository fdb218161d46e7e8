"""One seed per run: the noise of an update depends on (seed, update, process) alone, not on what ran before it."""

from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from annotated_types import Ge

from dgm.data.loading import fold


def seed_all(*numbers: int) -> None:
    """Seed the default generators of the CPU and, where it is in use, of the GPU."""
    seed = fold(*numbers)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


class Reproducible(pl.Callback):
    """Seeds every update anew, so that an interrupted run resumes exactly; validation noise is always the same."""

    def __init__(self, seed: Annotated[int, Ge(0)]) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, index: int) -> None:
        """Seed the update that follows, and each of its batches where it gathers the gradients of several."""
        within = index % trainer.accumulate_grad_batches
        seed_all(self.seed, 2, module.updates, trainer.global_rank, *([within] if within else []))

    def on_validation_batch_start(
        self, trainer: pl.Trainer, module: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        """The same noise in each validation."""
        seed_all(self.seed, 3, index, trainer.global_rank)
