"""Weights & Biases: online with a key, offline without one, one W&B run per run."""

import os
from typing import Any

from pytorch_lightning.loggers import WandbLogger


def has_key() -> bool:
    """A key in the environment or in the settings of an earlier login."""
    import wandb

    return bool(os.environ.get("WANDB_API_KEY") or wandb.setup().settings.api_key)


class Wandb(WandbLogger):
    """Lightning's logger with this project's habits: the run's identity as id, so that a resumed run goes on."""

    def __init__(self, project: str, folder: str, id: str, name: str, group: str | None, tags: list[str]) -> None:
        import wandb

        settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
        super().__init__(
            name=name, save_dir=folder, project=project, id=id, offline=not has_key(), resume="allow",
            group=group, tags=tags, settings=settings, job_type="train",
        )  # fmt: skip

    def log_summary(self, values: dict[str, float]) -> None:
        """Final measurements, as the run's summary and in its history."""
        self.experiment.log(values)
        self.experiment.summary.update(values)

    def finish(self) -> None:
        """Close the run, so that the next job of a sweep gets its own."""
        self.experiment.finish()

    def log_config(self, config: dict[str, Any]) -> None:
        """The resolved config."""
        self.experiment.config.update(config, allow_val_change=True)
