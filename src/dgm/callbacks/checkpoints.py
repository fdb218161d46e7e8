"""Checkpoints: the last state to go on from, the best weights to evaluate, and leaving in order when told to."""

import io
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import pytorch_lightning as pl
import torch
from annotated_types import Ge
from pytorch_lightning.plugins.io import TorchCheckpointIO

from dgm import files
from dgm.callbacks.guard import diverged

SHARE = 0.02  # of the time that checkpoints may take


class Left(BaseException):
    """Training was told to end and did, its state saved."""


class WholeFiles(TorchCheckpointIO):
    """Lightning writes to the system's temporary folder and then moves, which on another disk may stop half-way."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        """The whole file or none."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        files.write(Path(path), buffer.getvalue())


class Checkpoints(pl.callbacks.Checkpoint):
    """checkpoints/last.ckpt every `minutes`, at the end, and on SIGTERM or Ctrl-C; checkpoints/best.ckpt, weights
    only, whenever validation finds `monitor` better than ever.

    A signal is noted, the update brought to its end and the state saved; a second one leaves at once. What was
    logged is on disk before a checkpoint is, so a resumed run has the table of an uninterrupted one.
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] = "min",
        minutes: Annotated[float, Ge(0)] = 1.0,
    ) -> None:
        self.monitor, self.mode, self.minutes = monitor, mode, minutes
        self.best: float | None = None
        self.told = self.between = self.seen = False
        self.saved = self.cost = 0.0  # when, and the seconds it took
        self.before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """From now on signals are noted. Only a main thread can."""
        self.saved = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
            self.before = {number: signal.signal(number, self.note) for number in heard}

    def note(self, number: int, frame: Any) -> None:
        """Remember that we were told to leave; the second time, leave."""
        if self.told:
            raise KeyboardInterrupt
        self.told = True

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, index: int) -> None:
        """Lightning logs by a count of its own, which it restores one too high or too low; ours is in the model."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = module.updates

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Within an epoch; its end, a validation and gradients half gathered have their own time."""
        last = trainer.is_last_batch or (index + 1) % (trainer.val_check_batch or math.inf) == 0
        if not last and (index + 1) % trainer.accumulate_grad_batches == 0:
            self.look(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """After an epoch."""
        self.between = True
        self.look(trainer)
        self.between = False

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Between two epochs, say so: Lightning's counters stand half-way there, and it would count one twice."""
        if self.between:
            loops = checkpoint["loops"]["fit_loop"]
            for span in ("total", "current"):
                loops["epoch_progress"][span]["completed"] = loops["epoch_progress"][span]["processed"]
            batches = loops["epoch_loop.batch_progress"]
            batches["current"], batches["is_last_batch"] = dict.fromkeys(batches["current"], 0), False

    def look(self, trainer: pl.Trainer) -> None:
        """Save where it is time, save and leave where we were told to."""
        told, due = self.told, time.monotonic() - self.saved > max(60 * self.minutes, self.cost / SHARE)
        if trainer.world_size > 1:  # all processes must agree
            told, due = (trainer.strategy.reduce_boolean_decision(wish, all=False) for wish in (told, due))
        if told or due:
            self.save(trainer)
        if told:
            raise Left

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the weights where they are better than ever."""
        if trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics and self.seen:
            return  # it is measured after some validations only
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(name for name in trainer.callback_metrics if name.startswith("val/"))
            raise ValueError(f"callbacks.checkpoints.monitor={self.monitor}: not validated; there are: {known}")
        self.seen = True
        value = trainer.strategy.broadcast(trainer.callback_metrics[self.monitor].item())  # all processes must agree
        if not math.isfinite(value):
            return
        if self.best is None or (value < self.best if self.mode == "min" else value > self.best):
            self.best = value
            trainer.save_checkpoint(self.file(trainer, "best"), weights_only=True)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The last state."""
        self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write the last state, what was logged first. Errors: Diverged, with what was there before untouched."""
        if not all(parameter.isfinite().all() for parameter in trainer.lightning_module.parameters()):
            raise diverged(getattr(trainer.lightning_module, "updates", trainer.global_step), "weights that are")
        began = time.monotonic()
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.file(trainer, "last"))
        self.saved = time.monotonic()
        self.cost = self.saved - began

    def file(self, trainer: pl.Trainer, name: str) -> Path:
        """Where a checkpoint lies."""
        return Path(trainer.default_root_dir, "checkpoints", f"{name}.ckpt")

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Signals mean again what they did before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and whether there has been any."""
        return {"best": self.best, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.best, self.seen = state["best"], state.get("seen", state["best"] is not None)
