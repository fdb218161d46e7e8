"""Learning rates over a budget. Schedules of torch are stepped per epoch; these per update."""

import math
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class OverBudget(LRScheduler):
    """From the optimizer's rate at the first update to nothing after the last one.

    cosine: half a period (Loshchilov & Hutter, 2017, eq. 5, without restarts); linear: as in Gulrajani et al. (2017).
    """

    def __init__(self, optimizer: Optimizer, shape: Literal["cosine", "linear"]) -> None:
        self.shape, self.total = shape, 1
        super().__init__(optimizer)

    def over(self, updates: float) -> None:
        """Set the budget. Errors: ValueError where it has no end."""
        if not math.isfinite(updates):
            raise ValueError("scheduler: the budget has no end; set trainer.max_epochs or trainer.max_steps")
        self.total = int(updates)

    def get_lr(self) -> list[Any]:
        """The rate of each group at update `last_epoch`, as torch calls it."""
        left = max(0.0, 1 - self.last_epoch / self.total)
        factor = left if self.shape == "linear" else 0.5 * (1 - math.cos(math.pi * left))
        return [rate * factor for rate in self.base_lrs]
