"""What every trained model shares: one optimizer, terms in nats per image, repeatable evaluation.

Shapes: B batch, N samples.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dgm.images import bits_per_dim, inputs
from dgm.losses import Terms
from dgm.schedules import OverBudget

Batch = dict[str, Tensor]
MakeOptimizer = Callable[..., Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler]


@runtime_checkable
class Samples(Protocol):
    """A model that draws images."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """-> [N, C, H, W] in 0..1."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """A model with images for codes."""

    latent: int

    def decode(self, z: Tensor) -> Tensor:
        """[B, Z] -> [B, ...]."""
        ...


@runtime_checkable
class Encodes(Decodes, Protocol):
    """A model with codes for images and images for codes."""

    latent: int

    def encode(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, Z]."""
        ...


@runtime_checkable
class Completes(Protocol):
    """A model that draws an image value by value, in the order of its network."""

    network: nn.Module

    def complete(
        self, x: Tensor, known: Tensor, noise: Tensor, label: Tensor | None = None, cached: bool = True
    ) -> Tensor:
        """Draw what is not known, by noise uniform in 0..1: [N, C, H, W] each -> [N, C, H, W]."""
        ...

    def log_likelihood(self, x: Tensor, samples: int = 1, label: Tensor | None = None) -> Tensor:
        """[B, ...] -> [B] nats."""
        ...


@runtime_checkable
class HasPosterior(Protocol):
    """A model with a Gaussian posterior over its codes."""

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, ...] -> mu, logvar: [B, Z] each."""
        ...


class Model(pl.LightningModule):
    """A model trained by one optimizer on its objective."""

    objective: Callable[..., Terms]  # what is `given` -> terms [B], unreduced; what is minimised stands under `loss`
    classes: int = 0  # labels that the objective takes, 0 where it takes none
    levels: int | None = None  # how `elbo` becomes bits per dimension; None where there is no likelihood
    step: Tensor

    def __init__(self, optimizer: MakeOptimizer, scheduler: MakeScheduler | None = None) -> None:
        super().__init__()
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.data_size = 1
        self.log_every = 50
        self.batches_per_update = 1
        self.updates = 0
        self.register_buffer("step", torch.zeros(()))  # the same as a tensor, for objectives that anneal

    def __setattr__(self, name: str, value: Any) -> None:
        """As ever, but Lightning's note of the current hook, written some 50 times an update, takes the short way."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def given(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the objective takes of a batch."""
        return (inputs(batch), batch["label"]) if self.classes else (inputs(batch),)

    def draw_labels(self, n: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Labels to sample by, all classes alike: -> [N], or nothing where the model takes none."""
        return torch.randint(self.classes, (n,), generator=generator).to(self.device) if self.classes else None

    def compile_hot(self) -> None:
        """Compile what every update runs, its noise the one that is drawn without compilation."""
        self.mean_loss = torch.compile(self.mean_loss, options={"fallback_random": True})  # type: ignore[method-assign]

    def setup(self, stage: str) -> None:
        """Learn how often to log, when gradients are gathered, and the size of the training set for some objectives."""
        self.log_every = getattr(self.trainer, "log_every_n_steps", self.log_every)
        self.batches_per_update = getattr(self.trainer, "accumulate_grad_batches", 1)
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.data_size = data.size("train")

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One batch's loss; every `log_every` updates its terms are logged."""
        loss, terms = self.mean_loss(*self.given(batch))
        if (index + 1) % self.batches_per_update and not self.trainer.is_last_batch:
            return loss  # gradients are gathered
        if (self.updates + 1) % self.log_every == 0:
            self.record({f"train/{name}": value.mean().item() for name, value in terms.items()})
        self.updates += 1
        self.step.add_(1)
        return loss

    def mean_loss(self, *given: Tensor) -> tuple[Tensor, Terms]:
        """The loss [] as a mean over the batch, and its terms [B], which take no gradients."""
        terms = self.objective(*given)
        return terms["loss"].mean(), {name: value.detach() for name, value in terms.items()}

    def record(self, values: dict[str, float], update: int | None = None) -> None:
        """Hand values of this update, or of another, to the loggers at once, so that a checkpoint after it finds them
        written. Updates count from 0; what comes after an update is the resumed run's to write again."""
        for logger in self.loggers:
            logger.log_metrics({**values, "epoch": self.current_epoch}, step=self.updates if update is None else update)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log the mean terms over the validation set, in the objective that is trained."""
        self._log_means("val", batch)

    def test_step(self, batch: Batch, index: int) -> None:
        """Log the mean terms over the test set."""
        self._log_means("test", batch)

    def _log_means(self, stage: str, batch: Batch) -> None:
        x, *label = self.given(batch)
        terms = self.objective(x, *label)
        if self.levels is not None and "elbo" in terms and x.dim() == 4:  # a point has no levels
            terms["bits_per_dim"] = bits_per_dim(-terms["elbo"], x[0].numel(), self.levels)
        means = {f"{stage}/{name}": value.mean() for name, value in terms.items()}
        self.log_dict(means, on_epoch=True, sync_dist=True, batch_size=len(x))

    def configure_optimizers(self) -> Any:
        """The injected optimizer, with its schedule where there is one."""
        optimizer = self.make_optimizer(p for p in self.parameters() if p.requires_grad)
        make = self.make_scheduler
        return optimizer if make is None else ([optimizer], [self.schedule(make, optimizer)])

    def schedule(self, make: MakeScheduler, optimizer: Optimizer) -> dict[str, Any]:
        """A schedule as Lightning takes it: over the budget it is stepped per update, any other per epoch."""
        schedule = make(optimizer)
        return {"scheduler": schedule, "interval": "step" if isinstance(schedule, OverBudget) else "epoch"}

    def on_train_start(self) -> None:
        """Tell schedules the budget. (Asked for any earlier, Lightning forgets where in its epoch a run was cut.)"""
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, OverBudget):
                config.scheduler.over(self.trainer.estimated_stepping_batches)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the number of updates."""
        self.updates = int(checkpoint["state_dict"]["step"])


def conditioned(classes: int, conditional: bool) -> int:
    """The classes that a model is conditional on: 0 where it is not. Errors: ValueError where there are none."""
    if conditional and classes < 2:
        raise ValueError(f"conditional=true: the data set has {classes} classes; choose one with labels")
    return classes if conditional else 0


def met(likelihood: Any, asked: str) -> Any:
    """A likelihood that gives what a model asks of it: the `mean` of what a decoder says, or a `conditional` of one
    value. Errors: ValueError where it does not."""
    if not hasattr(likelihood, asked):
        fit = {"mean": "bernoulli, gaussian, learned_gaussian or discretized_logistic"}
        choice = fit.get(asked, "bernoulli, categorical or logistic_mixture")
        name = type(likelihood).__name__
        raise ValueError(f"likelihood={name}: gives no {asked}, which this model asks of it; take {choice}")
    return likelihood
