"""Sample and reconstruction grids at fixed noise and fixed images, as files and to loggers that take images."""

from pathlib import Path
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from annotated_types import Ge
from PIL import Image
from torch import Tensor

from dgm.callbacks.progress import served
from dgm.images import grid


class Grids(pl.Callback):
    """Draws after every `every`-th validation and at the end of training; what a model cannot do is left out."""

    def __init__(self, every: Annotated[int, Ge(1)] = 10, images: Annotated[int, Ge(1)] = 64) -> None:
        self.every, self.images = every, images
        self.count = 0

    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Draw where it is time."""
        self.count += 1
        if not trainer.sanity_checking and self.count % self.every == 0:
            self.draw(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Draw the last state."""
        self.draw(trainer, module)

    def state_dict(self) -> dict[str, int]:
        """Validations so far."""
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.count = state["count"]

    def draw(self, trainer: pl.Trainer, module: Any) -> None:
        """Write samples/NAME_UPDATE.png in the run's folder and hand the pictures to the loggers."""
        data = served(trainer)
        if not trainer.is_global_zero or len(data.shape) != 3:
            return
        folder = Path(trainer.default_root_dir) / "samples"
        folder.mkdir(exist_ok=True)
        for name, tiles, columns in pictures(module, data, self.images):
            picture = Image.fromarray(grid(tiles, columns).numpy())
            picture.save(folder / f"{name}_{trainer.global_step:07d}.png")
            for logger in trainer.loggers:
                if hasattr(logger, "log_image"):
                    logger.log_image(key=name, images=[picture], step=trainer.global_step)


@torch.no_grad()
def pictures(model: Any, data: Any, n: int) -> list[tuple[str, Tensor, int]]:
    """(name, tiles [N, C, H, W] in 0..1, columns) of all that a model can show."""
    was_training = model.training
    model.eval()
    shown = []
    if hasattr(model, "sample"):
        shown.append(("samples", model.sample(n, generator=torch.Generator().manual_seed(0)).cpu(), 8))
    if hasattr(model, "encode") and hasattr(model, "decode"):
        batch = data.set("test").fetch(torch.arange(min(n // 2, data.size("test"))))
        x, *label = (part.to(model.device) for part in model.given(batch))
        x, again = x.cpu(), model.decode(model.encode(x), *label).cpu()
        shown.append(("reconstructions", torch.stack([x, again], 1).flatten(0, 1), 8))
    model.train(was_training)
    return shown
