"""How long the generator's gradient is under several losses, against one and the same critic."""

from collections.abc import Callable
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from annotated_types import Ge, MinLen
from torch import Tensor

from dgm.losses import Terms


class Saturation(pl.Callback):
    """After the given numbers of updates, as saturation/NAME: the norm of each loss's gradient with respect to the
    generator's weights, and the mean of P(real) that the critic gives to samples (Arjovsky & Bottou, 2017, fig. 2, 3).
    """

    def __init__(
        self,
        losses: dict[str, Callable[[Tensor, Tensor], Terms]],
        updates: Annotated[list[Annotated[int, Ge(0)]], MinLen(1)],
        samples: Annotated[int, Ge(1)] = 256,
    ) -> None:
        self.losses, self.updates, self.samples = losses, updates, samples

    def setup(self, trainer: pl.Trainer, module: Any, stage: str) -> None:
        """Errors: ValueError for what is no game."""
        if not hasattr(module, "logits"):
            raise ValueError("callbacks.saturation: only a game has a generator whose loss saturates; leave it out")

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Before the first update."""
        if module.updates == 0:
            self.look(module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Where it is asked for."""
        self.look(module)

    def look(self, module: Any) -> None:
        """Measure, by the same codes each time."""
        if module.updates not in self.updates:
            return
        before = [buffer.clone() for buffer in module.buffers()]  # of batch normalisation; a look changes nothing
        label = torch.arange(self.samples, device=module.device) % module.classes if module.classes else None
        logits = module.logits(module.generate(self.samples, label, torch.Generator().manual_seed(0)), label)
        weights = [p for p in module.generator.parameters() if p.requires_grad]
        values = {"updates": float(module.updates), "p_real": logits.sigmoid().mean().item()}
        for name, loss in self.losses.items():
            term = loss(torch.zeros_like(logits), logits)["generator"].mean()
            gradient = torch.autograd.grad(term, weights, retain_graph=True)
            values[name] = torch.stack(torch._foreach_norm(list(gradient))).norm().item()
        for buffer, known in zip(module.buffers(), before, strict=True):
            buffer.copy_(known)
        module.record({f"saturation/{name}": value for name, value in values.items()}, max(module.updates - 1, 0))
