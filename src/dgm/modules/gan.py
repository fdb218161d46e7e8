"""Generative adversarial networks: any generator, critic, game and penalty.

Shapes: B batch, N samples, Z latent dimensions, K classes, *E event.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
import torch.distributed
import torch.nn.functional as F
from annotated_types import Ge, Gt
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from dgm.distributions import precise
from dgm.losses import Terms
from dgm.losses.penalties import Critic
from dgm.modules.base import Batch, MakeOptimizer, MakeScheduler, Model, conditioned

Penalty = Callable[[Critic, Tensor, Tensor], Tensor]


@runtime_checkable
class Prior(Protocol):
    """What the generator transforms."""

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        """-> [N, Z]."""
        ...


class GAN(Model):
    """Goodfellow et al. (2014), algorithm 1.

    critic_steps: k, each on a batch of its own, so an update, an epoch and a budget count generator updates.
    critic_lr, critic_scheduler: where they differ from the generator's (TTUR, Heusel et al., 2017). penalty_every:
    lazily, at that many times its weight (Karras et al., 2020, sec. 3.1). clip: bound of the critic's weights
    (Arjovsky et al., 2017). clip_norm, critic_clip_norm: bounds of the norms of both players' gradients. prior: a
    standard normal of `latent` dimensions, or what draws codes of as many. augment: what is done to all that the critic
    sees (Zhao et al., 2020). auxiliary: above 0, the critic is not told the label but must guess it, and both players
    pay so many times what it errs by (Odena et al., 2017, eq. 2 and 3).
    """

    def __init__(
        self,
        generator: Callable[..., nn.Module],
        critic: Callable[..., nn.Module],
        loss: Callable[[Tensor, Tensor], Terms],
        optimizer: MakeOptimizer,
        latent: Annotated[int, Ge(1)],
        critic_steps: Annotated[int, Ge(1)] = 1,
        critic_lr: Annotated[float, Gt(0)] | None = None,
        penalty: Penalty | None = None,
        penalty_every: Annotated[int, Ge(1)] = 1,
        clip: Annotated[float, Gt(0)] | None = None,
        clip_norm: Annotated[float, Gt(0)] | None = None,
        critic_clip_norm: Annotated[float, Gt(0)] | None = None,
        prior: Prior | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        auxiliary: Annotated[float, Ge(0)] = 0.0,
        scheduler: MakeScheduler | None = None,
        critic_scheduler: MakeScheduler | None = None,
        classes: Annotated[int, Ge(0)] = 0,
        conditional: bool = False,
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.classes = conditioned(classes, conditional)
        if auxiliary and not self.classes:
            raise ValueError(f"auxiliary={auxiliary}: there are no labels to guess; set model.conditional=true")
        if prior is not None and (drawn := prior.sample(1, None).shape[1]) != latent:
            raise ValueError(f"latent={latent}: the prior draws codes of {drawn} dimensions; set model.latent={drawn}")
        self.generator = generator(condition=self.classes)
        self.critic = critic(guesses=self.classes) if auxiliary else critic(condition=self.classes)
        if penalty is not None and any(isinstance(layer, _BatchNorm) for layer in self.critic.modules()):
            raise ValueError(
                "penalty: a gradient of one image's logit has no meaning where the critic's batch normalisation "
                "couples images; give the critic another norm, or penalty=null"
            )
        self.loss, self.latent = loss, latent
        one = torch.ones(1, device="cpu")
        self.flipped = bool(loss(one, -one)["critic"] > loss(-one, one)["critic"])  # sigmoid(logit) is P(fake)
        self.critic_steps, self.critic_lr = critic_steps, critic_lr
        self.penalty, self.penalty_every, self.clip = penalty, penalty_every, clip
        self.clip_norm, self.critic_clip_norm = clip_norm, critic_clip_norm
        self.prior, self.augment, self.auxiliary = prior, augment, auxiliary
        self.make_critic_scheduler = critic_scheduler or scheduler
        self.automatic_optimization = False

    def setup(self, stage: str) -> None:
        """Errors: ValueError for what the trainer cannot do for two players."""
        super().setup(stage)
        if str(self.trainer.precision) == "16-mixed":
            raise ValueError("trainer.precision=16-mixed: losses of a game are not scaled; take bf16-mixed")
        if limit := getattr(self.trainer, "gradient_clip_val", None):
            raise ValueError(
                f"trainer.gradient_clip_val={limit}: a game has two gradients; set model.clip_norm for the "
                "generator's and model.critic_clip_norm for the critic's"
            )

    def compile_hot(self) -> None:
        """Both players. Errors: ValueError with a penalty, whose second derivative the compiler has not got."""
        if self.penalty is not None:
            raise ValueError(
                "compile=true: a penalty needs a second derivative, which torch.compile cannot take; leave one out"
            )
        self.generator.compile()
        self.critic.compile()

    @property
    def batches(self) -> int:
        """Batches of data that one update takes."""
        return self.critic_steps

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """k steps of the critic, then one of the generator, by whose optimizer Lightning counts."""
        generator, critic = self.optimizers()  # type: ignore[attr-defined]
        for step, (x, label) in enumerate(self.parts(batch)):
            with torch.no_grad():
                fake = self.generate(len(x), label)
            (real_logits, real_error), (fake_logits, fake_error) = self.judge(x, label), self.judge(fake, label)
            critic_loss = (self.loss(real_logits, fake_logits)["critic"] + real_error + fake_error).mean()
            penalty = self.penalise(partial(self.logits, label=label), x, fake, self.updates * self.critic_steps + step)
            self.descend(self.critic, critic_loss + penalty, critic.optimizer, self.critic_clip_norm)
            self.constrain()
        logits, error = self.judge(self.generate(len(x), label), label)
        loss = (self.loss(real_logits.detach(), logits)["generator"] + error).mean()
        self.descend(self.generator, loss, generator, self.clip_norm)
        self.step_schedules("step")
        if (self.updates + 1) % self.log_every == 0:
            self.record({
                "train/critic": critic_loss.item(), "train/penalty": penalty.item(), "train/generator": loss.item(),
                **{f"train/{name}": value for name, value in self.judged(real_logits, fake_logits).items()},
            })  # fmt: skip
        self.updates += 1
        self.step += 1
        return critic_loss.detach() + loss.detach()

    def parts(self, batch: Batch) -> list[tuple[Tensor, Tensor | None]]:
        """The critic's k batches, with their labels [B]."""
        x, *label = self.given(batch)
        steps = min(self.critic_steps, len(x))  # of the last batch of an epoch, which may be small
        labels = label[0].tensor_split(steps) if label else [None] * steps
        return list(zip(x.tensor_split(steps), labels, strict=True))

    def judge(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[B, *E] -> logits [B] in the convention of the loss, and what guesses of the labels cost [B]."""
        seen = x if self.augment is None else self.augment(x)
        if not self.auxiliary or label is None:
            logits = precise(self.critic(seen, self.condition(label)))
            return logits, torch.zeros_like(logits)
        said = precise(self.critic(seen))
        return said[:, 0], self.auxiliary * F.cross_entropy(said[:, 1:], label, reduction="none")

    def logits(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """[B, *E] -> [B], high where the critic takes an image for real, whatever the convention of the loss."""
        said = self.judge(x, label)[0]
        return -said if self.flipped else said

    def condition(self, label: Tensor | None) -> Tensor | None:
        """Labels [B] as the networks take them: one-hot, [B, K]."""
        return None if label is None else F.one_hot(label, self.classes).float()

    def codes(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws of the prior: -> [N, Z]; by a generator on the CPU, or by the device's own."""
        if self.prior is not None:
            return self.prior.sample(n, generator).to(self.device)
        if generator is None:
            return torch.randn(n, self.latent, device=self.device)
        return torch.randn(n, self.latent, generator=generator).to(self.device)

    def generate(self, n: int, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Images of n draws of the prior, with their gradient: -> [N, *E]."""
        return self.generator(self.codes(n, generator), self.condition(label))

    def judged(self, real: Tensor, fake: Tensor) -> dict[str, float]:
        """How well the critic judges, by logits [B], [B] as the loss gets them."""
        return judged(-real, -fake) if self.flipped else judged(real, fake)

    def penalise(self, critic: Critic, real: Tensor, fake: Tensor, step: int) -> Tensor:
        """The penalty of this critic step, mean over the batch."""
        if self.penalty is None or step % self.penalty_every:
            return torch.zeros((), device=self.device)
        return self.penalty_every * self.penalty(critic, real, fake).mean()

    def descend(
        self, player: nn.Module, loss: Tensor, optimizer: Optimizer | LightningOptimizer, limit: float | None = None
    ) -> None:
        """One step of one player, by a gradient no longer than `limit`; the other's gradients are not computed."""
        optimizer.zero_grad()
        weights = [p for p in player.parameters() if p.requires_grad]
        loss.backward(inputs=weights)
        if self.trainer.world_size > 1:
            average([p.grad for p in weights if p.grad is not None])
        if limit is not None:
            nn.utils.clip_grad_norm_(weights, limit)
        optimizer.step()

    @torch.no_grad()
    def constrain(self) -> None:
        """Clip the critic's weights."""
        if self.clip is not None:
            for weight in self.critic.parameters():
                weight.clamp_(-self.clip, self.clip)

    def validation_step(self, batch: Batch, index: int) -> None:
        """How the critic judges validation images and new samples."""
        x, *labels = self.given(batch)
        label = labels[0] if labels else None
        values = self.judged(self.judge(x, label)[0], self.judge(self.generate(len(x), label), label)[0])
        named = {f"val/{name}": value for name, value in values.items()}
        self.log_dict(named, on_epoch=True, sync_dist=True, batch_size=len(x))

    def sample(self, n: int, generator: torch.Generator | None = None, label: Tensor | None = None) -> Tensor:
        """Images of n draws of the prior: -> [N, *E]; where labels [N] are wanted and not given, they are drawn."""
        z = self.codes(n, generator)
        label = self.draw_labels(n, generator) if label is None else label
        return self.decode(z, label)

    @torch.no_grad()
    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """[B, Z] -> [B, *E]. Errors: ValueError where labels [B] are wanted and not given."""
        if self.classes and label is None:
            raise ValueError("this GAN is conditional: give it labels, or a run with model.conditional=false")
        return self.generator(z, self.condition(label))

    def configure_optimizers(self) -> Any:
        """The same optimizer for both, with the critic's own rate, and schedules where there are any."""
        own = {} if self.critic_lr is None else {"lr": self.critic_lr}
        both = [self.make_optimizer(self.generator.parameters()), self.make_optimizer(self.critic.parameters(), **own)]
        makers = (self.make_scheduler, self.make_critic_scheduler)
        schedules = [self.schedule(make, one) for make, one in zip(makers, both, strict=True) if make is not None]
        return (both, schedules) if schedules else both

    def on_train_epoch_end(self) -> None:
        """Schedules per epoch."""
        self.step_schedules("epoch")

    def step_schedules(self, interval: str) -> None:
        """Lightning leaves them to us; what is per step here counts the generator's."""
        for config in self.trainer.lr_scheduler_configs:
            if config.interval == interval:
                schedule: Any = config.scheduler
                schedule.step()


def judged(real: Tensor, fake: Tensor) -> dict[str, float]:
    """Of logits [B], [B], whatever their scale: the critic's accuracy with the threshold half-way between the means of
    real and generated images, and the gap of these means."""
    middle = (real.mean() + fake.mean()) / 2
    right = (real > middle).float().mean() + (fake < middle).float().mean()
    return {"critic_accuracy": right.item() / 2, "logit_gap": (real.mean() - fake.mean()).item()}


def average(gradients: list[Tensor]) -> None:
    """The mean over all processes."""
    for gradient in gradients:
        torch.distributed.all_reduce(gradient)
        gradient /= torch.distributed.get_world_size()
