"""Stops a run that has diverged, before it writes a checkpoint of it."""

import math
from typing import Annotated, Any

import pytorch_lightning as pl
from annotated_types import Ge


class Diverged(RuntimeError):
    """The loss is no longer a number."""


def diverged(update: int, what: str) -> Diverged:
    """The error in words."""
    return Diverged(
        f"update {update} left {what} not finite; lower optimizer.lr or set trainer.gradient_clip_val "
        "(the last good checkpoint is kept)"
    )


class Guard(pl.Callback):
    """Looks at the loss of every `every`-th update and, on the CPU where looking costs nothing, of each."""

    def __init__(self, every: Annotated[int, Ge(1)] = 50) -> None:
        self.every = every

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Raise Diverged where the loss is NaN or infinite."""
        loss = outputs["loss"]
        if (loss.device.type == "cpu" or index % self.every == 0) and not math.isfinite(value := loss.item()):
            raise diverged(module.updates, f"a loss of {value}, which is")
