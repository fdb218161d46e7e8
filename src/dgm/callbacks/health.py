"""Watches a game for collapse and divergence, and says so when it happens."""

import sys
from collections import deque
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor
from tqdm import tqdm

from dgm.callbacks.progress import served
from dgm.data.sets import whole
from dgm.images import inputs


class Health(pl.Callback):
    """After every `every`-th update: diversity of samples against that of data, and the norms of both gradients.

    Collapse: samples of different codes are alike, the mean distance of two of them below `alike` of that of two
    training images. Blind: the critic tells real from generated without a mistake while the generator's gradient has
    all but vanished. A healthy game may begin like that: what lasts `patience` looks is logged, and said once.
    """

    def __init__(
        self,
        every: Annotated[int, Ge(1)] = 200,
        samples: Annotated[int, Ge(4)] = 64,
        alike: Annotated[float, Gt(0), Lt(1)] = 0.25,
        vanished: Annotated[float, Gt(0)] = 1e-4,
        patience: Annotated[int, Ge(1)] = 3,
    ) -> None:
        self.every, self.samples, self.alike = every, samples, alike
        self.vanished, self.patience = vanished, patience
        self.said: set[str] = set()
        self.recent: deque[dict[str, bool]] = deque(maxlen=patience)
        self.wanted = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """What diversity is to be had."""
        if not all(hasattr(module, part) for part in ("generator", "critic")):
            raise ValueError("callbacks.health: only a game with a generator and a critic has a health; leave it out")
        self.wanted = diversity(inputs(whole(served(trainer).set("train"), self.samples)))

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Look where it is time. Gradients are those of the update that has just been made."""
        if module.updates % self.every:
            return
        with torch.no_grad():
            was = module.training
            module.eval()
            fake, perfect = self.look(module, batch)
            module.train(was)
        share = diversity(fake) / max(self.wanted, 1e-12)
        norms = {name: gradient_norm(getattr(module, name)) for name in ("generator", "critic")}
        signs = {"collapse": share < self.alike, "blind": perfect and norms["generator"] < self.vanished}
        self.recent.append(signs)
        lasting = len(self.recent) == self.patience
        found = {name: lasting and all(past[name] for past in self.recent) for name in signs}
        values = {f"gradient_{name}": norm for name, norm in norms.items()}
        values |= {"diversity": share, **{name: float(yes) for name, yes in found.items()}}
        module.record({f"health/{name}": value for name, value in values.items()}, module.updates - 1)
        self.tell(module.updates, found, share)

    def look(self, module: Any, batch: Any) -> tuple[Tensor, bool]:
        """Samples [N, *E], of a conditional model with the labels of real images; does the critic know each of both?"""
        real, label = (*module.given({name: v[: self.samples].to(module.device) for name, v in batch.items()}), None)[
            :2
        ]
        of = {} if label is None else {"label": label}
        fake = module.sample(len(real), generator=torch.Generator().manual_seed(module.updates), **of)
        return fake, bool(module.logits(real, label).min() > module.logits(fake, label).max())

    def tell(self, update: int, found: dict[str, bool], share: float) -> None:
        """Say what is new."""
        words = {
            "collapse": f"update {update}: samples are alike, their diversity {share:.0%} of the data's: the generator "
            "has collapsed; lower optimizer.lr, add model/penalty=r1 or take another loss",
            "blind": f"update {update}: the critic makes no mistake and the generator's gradient has vanished; "
            "take loss=non_saturating or hinge, or fewer model.critic_steps",
        }
        for name, yes in found.items():
            if yes and name not in self.said:
                tqdm.write(words[name], file=sys.stderr)
        self.said = {name for name, yes in found.items() if yes}

    def state_dict(self) -> dict[str, Any]:
        """What was found lately."""
        return {"said": sorted(self.said), "recent": list(self.recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.said, self.recent = set(state["said"]), deque(state["recent"], maxlen=self.patience)


def diversity(x: Tensor) -> float:
    """Mean distance of two of them: [N, ...]."""
    distances = torch.pdist(x.flatten(1).float())
    return distances.mean().item()


def gradient_norm(player: torch.nn.Module) -> float:
    """Over all its weights."""
    gradients = [p.grad for p in player.parameters() if p.grad is not None]
    return torch.stack(torch._foreach_norm(gradients)).norm().item() if gradients else 0.0
