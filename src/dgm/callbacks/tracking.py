"""Weights & Biases: online with a key, offline without one; every run its own W&B run."""

import os
from typing import Any, Literal, cast

from pytorch_lightning.loggers import WandbLogger

Mode = Literal["online", "offline", "disabled"]


def mode() -> Mode:
    """What WANDB_MODE says, else online where there is a key in the environment or from an earlier login."""
    import wandb

    found = os.environ.get("WANDB_API_KEY") or wandb.setup().settings.api_key
    return cast(Mode, os.environ.get("WANDB_MODE") or ("online" if found else "offline"))


class Wandb(WandbLogger):
    """Lightning's logger with this project's habits: the run's identity as id, so that a resumed run goes on."""

    def __init__(self, project: str, folder: str, id: str, name: str, group: str | None, tags: list[str]) -> None:
        import wandb

        settings = wandb.Settings(mode=mode(), silent=True, console="off", x_disable_stats=True)
        if os.environ.get("WANDB_SWEEP_ID"):  # an agent of W&B's own has named the run already
            id, group = os.environ.get("WANDB_RUN_ID", id), None
        super().__init__(name, folder, project=project, id=id, group=group, tags=tags, settings=settings)
        self._wandb_init.pop("anonymous", None)  # Lightning still passes it, W&B warns of it

    def log_config(self, config: dict[str, Any]) -> None:
        """The resolved config."""
        self.experiment.config.update(config, allow_val_change=True)

    def log_summary(self, values: dict[str, float]) -> None:
        """Final measurements, in the run's history and as its summary."""
        self.experiment.log(values)
        self.experiment.summary.update(values)

    def finish(self) -> None:
        """Close the run, so that the next job of a sweep gets its own."""
        self.experiment.finish()
