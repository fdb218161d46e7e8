"""Sample quality while a run trains: a metric of the end, taken of fewer samples after some validations."""

from collections.abc import Callable
from typing import Annotated, Any

import pytorch_lightning as pl
from annotated_types import Ge

from dgm.callbacks.progress import served
from dgm.metrics.report import Report


class Quality(pl.Callback):
    """Logs the values of `metric` as val/NAME after the first validation and every `every`-th from there: they may be
    monitored.

    The metric of conf/callbacks/quality.yaml compares with validation images; test images only give its anchors, which
    are not logged here.
    """

    def __init__(self, metric: Callable[..., Report], every: Annotated[int, Ge(1)] = 1) -> None:
        self.metric, self.every = metric, every
        self.count = 0

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Measure; all processes draw the same samples, so the value needs no reduction."""
        if trainer.sanity_checking:
            return
        self.count += 1
        if (self.count - 1) % self.every:
            return
        report = self.metric(module, served(trainer), module.device)
        anchors = ("_floor", "_scale")
        module.log_dict({f"val/{name}": value for name, value in report.values.items() if not name.endswith(anchors)})

    def state_dict(self) -> dict[str, int]:
        """Validations so far."""
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.count = state["count"]
