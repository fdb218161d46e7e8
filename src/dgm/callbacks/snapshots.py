"""What a game on the line looks like while it is played, kept for a figure."""

import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytorch_lightning as pl
import torch
from annotated_types import Ge

from dgm.callbacks.progress import served
from dgm.data.sets import whole
from dgm.files import write


class Snapshots(pl.Callback):
    """Every `every` updates, from the first on: snapshots/UPDATE.npz in the run's folder.

    `real`, `fake`: points [N]; `real_logits`, `fake_logits`: of them; `places`, `logits`: evenly from `low` to `high`.
    """

    def __init__(
        self,
        every: Annotated[int, Ge(1)] = 50,
        samples: Annotated[int, Ge(10)] = 5000,
        low: float = -2.0,
        high: float = 6.0,
        places: Annotated[int, Ge(2)] = 321,
    ) -> None:
        if low >= high:
            raise ValueError(f"callbacks.snapshots.low={low} must lie below high={high}")
        self.every, self.samples, self.places = every, samples, (low, high, places)

    def setup(self, trainer: pl.Trainer, module: Any, stage: str) -> None:
        """Errors: ValueError for what is no game on the line."""
        if not hasattr(module, "logits") or list(served(trainer).shape) != [1]:
            raise ValueError(
                "callbacks.snapshots: only a game on points of one dimension is drawn so; "
                "take experiment=line_gan or leave it out"
            )

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Before the first update."""
        if module.updates == 0:
            self.take(trainer, module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Where it is time."""
        if module.updates % self.every == 0:
            self.take(trainer, module)

    @torch.no_grad()
    def take(self, trainer: pl.Trainer, module: Any) -> None:
        """Draw by a generator of our own, and write."""
        if not trainer.is_global_zero:
            return
        was = module.training
        module.eval()
        low, high, count = self.places
        points = {
            "real": whole(served(trainer).set("test"), self.samples)["point"].to(module.device),
            "fake": module.sample(self.samples, generator=torch.Generator().manual_seed(0)),
            "places": torch.linspace(low, high, count, device=module.device)[:, None],
        }
        judged = {name: module.logits(x).cpu().numpy() for name, x in points.items()}
        module.train(was)
        arrays = {name: x[:, 0].cpu().numpy() for name, x in points.items()}
        arrays |= {"real_logits": judged["real"], "fake_logits": judged["fake"], "logits": judged["places"]}
        held = io.BytesIO()
        np.savez(held, **arrays)
        write(Path(trainer.default_root_dir) / "snapshots" / f"{module.updates:07d}.npz", held.getvalue())
