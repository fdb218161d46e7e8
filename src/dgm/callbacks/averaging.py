"""Exponential moving average of the weights, resumed exactly. It takes their place wherever the model is looked at."""

from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn


class Averaging(pl.Callback):
    """average <- d average + (1 - d) weights after every update (Polyak & Juditsky, 1992), with d = `decay` or, in the
    first updates t, (1 + t) / (10 + t).

    `parts` names what is averaged, such as [generator]; empty: all parameters. The average stands in the model for
    validation, pictures and the checkpoints after them; the trained weights come back with the next update. A
    checkpoint holds both, so an interrupted run goes on exactly.
    """

    def __init__(self, decay: Annotated[float, Ge(0), Lt(1)] = 0.999, parts: list[str] | None = None) -> None:
        self.decay, self.parts = decay, parts or []
        self.updates = 0
        self.shown = False  # whether the average stands in the model now
        self.weights: list[nn.Parameter] = []
        self.other: list[Tensor] = []  # the average, or the trained weights while the average is shown

    def setup(self, trainer: pl.Trainer, module: nn.Module, stage: str) -> None:
        """Start from the initial weights. Errors: ValueError for a part that is not there, or has none."""
        chosen = [p for name, p in module.named_parameters() if not self.parts or self._within(name)]
        self.weights = [p for p in chosen if p.requires_grad]
        names = [name for name, _ in module.named_parameters()]
        lost = [part for part in self.parts if not any(name.startswith(part + ".") for name in names)]
        if lost or not self.weights:
            there = ", ".join(sorted({name.partition(".")[0] for name in names}))
            raise ValueError(
                f"callbacks.ema.parts={lost or self.parts}: {type(module).__name__} has no weights there to average; "
                f"it has {there or 'none'}"
            )

    def _within(self, name: str) -> bool:
        return any(name.startswith(part + ".") for part in self.parts)

    def on_train_start(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """The copies lie where the model has been moved to."""
        fresh = not self.other
        held = [p.detach().clone() for p in self.weights] if fresh else self.other
        self.other = [h.to(p.device) for h, p in zip(held, self.weights, strict=True)]

    def on_train_batch_start(self, trainer: pl.Trainer, module: nn.Module, batch: Any, index: int) -> None:
        """Training goes on with the trained weights."""
        self.show(False)

    def on_train_batch_end(self, trainer: pl.Trainer, module: nn.Module, outputs: Any, batch: Any, index: int) -> None:
        """Average, after a real update."""
        if trainer.global_step > self.updates:
            self.updates = trainer.global_step
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            torch._foreach_lerp_(self.other, [p.detach() for p in self.weights], 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """What is validated is the average."""
        self.show(True)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """What is saved after an epoch is the average."""
        self.show(True)

    def on_train_end(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """What stays is the average."""
        self.show(True)

    @torch.no_grad()
    def show(self, average: bool) -> None:
        """Exchange the weights in the model and those held here, where they are not as wanted."""
        if average != self.shown and self.other:
            held = [p.detach().clone() for p in self.weights]
            torch._foreach_copy_([p.detach() for p in self.weights], self.other)
            torch._foreach_copy_(self.other, held)
            self.shown = average

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weights in the model."""
        return {"updates": self.updates, "shown": self.shown, "other": self.other}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.updates, self.shown, self.other = state["updates"], state["shown"], state["other"]
