"""Ending a trial of a search early, by its validation so far."""

from typing import Any

import pytorch_lightning as pl


class Pruned(Exception):
    """A trial that is not worth its time: an outcome, not a failure."""


class Pruning(pl.Callback):
    """Reports `objective` after each validation to the trial of an Optuna study, which may end it."""

    def __init__(self, trial: Any, objective: str) -> None:
        self.trial, self.objective = trial, objective

    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Report and, where the pruner says so, end."""
        if trainer.sanity_checking or self.objective not in trainer.callback_metrics:
            return
        value = trainer.callback_metrics[self.objective].item()
        self.trial.report(value, trainer.current_epoch)
        if self.trial.should_prune():
            raise Pruned(f"pruned after epoch {trainer.current_epoch + 1}: {self.objective} was {value:.4g}")
