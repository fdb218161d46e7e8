"""What a person sees while a run trains: a start-up line, a bar, the time it took."""

import sys
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm


class Progress(pl.Callback):
    """A start-up line and a bar over all updates; only the first process of several speaks.

    Where the output is no terminal there is no bar, but the lines before and after it. What a run took is noted with
    every checkpoint, on top of the seconds `before`, for a process that is killed cannot say it.
    """

    def __init__(self, bar: bool = True, note: Callable[..., None] = lambda **_: None, before: float = 0.0) -> None:
        self.shown, self.note, self.before = bar, note, before
        self.bar: tqdm | None = None
        self.began = self.images_per_second = 0.0
        self.first = 0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Say what will be trained, on how many images, with how many parameters, for how long."""
        self.began, self.first = time.perf_counter(), trainer.global_step
        if not trainer.is_global_zero:
            return
        total = int(trainer.estimated_stepping_batches)
        print(startup_line(trainer, module, total), file=sys.stderr)
        self.note(total_updates=total)
        hidden = not (self.shown and sys.stderr.isatty())
        self.bar = tqdm(total=total, initial=self.first, unit="update", leave=False, mininterval=0.3, disable=hidden)

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(1)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Note the time so far."""
        if self.bar is not None:
            self.note(seconds=self.before + time.perf_counter() - self.began)

    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Show the validation loss on the bar."""
        if self.bar is not None and "val/loss" in trainer.callback_metrics:
            self.bar.set_postfix_str(f"val/loss {trainer.callback_metrics['val/loss'].item():.2f}", refresh=False)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Say how long it took."""
        updates, seconds = trainer.global_step - self.first, time.perf_counter() - self.began
        self.images_per_second = updates * images_per_update(trainer) / max(seconds, 1e-9)
        if self.bar is not None:
            self.bar.close()
            speed = f"{self.images_per_second:,.0f} images/s"
            print(f"Trained {updates:,} updates in {seconds:.1f} s ({speed})", file=sys.stderr)


def served(trainer: pl.Trainer) -> Any:
    """The data module a trainer was given; Lightning sets it without declaring it."""
    return getattr(trainer, "datamodule")  # noqa: B009


def images_per_update(trainer: pl.Trainer) -> float:
    """Images that all processes see in one update, on average over an epoch."""
    return served(trainer).size("train") / max(1, int(trainer.num_training_batches))


def startup_line(trainer: pl.Trainer, module: pl.LightningModule, total: int) -> str:
    """`Training VAE (0.8 M parameters) on 55,000 images of mnist ...`."""
    parameters = sum(p.numel() for p in module.parameters() if p.requires_grad)
    size = f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters:,}"
    data = served(trainer)
    epochs = total / max(1, int(trainer.num_training_batches))
    kind = "images" if len(data.shape) == 3 else "points"
    many = "epoch" if epochs == 1 else "epochs"
    where = f"{trainer.world_size} x {trainer.strategy.root_device.type}"
    return (
        f"Training {type(module).__name__} ({size} parameters) on {data.size('train'):,} {kind} of {data.name} "
        f"for {epochs:g} {many} ({total:,} updates) on {where}"
    )
