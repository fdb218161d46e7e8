"""What figures read from runs: test images, codes, posteriors, and whether runs can stand in one picture.

Shapes: N images, C channels, H height, W width, Z latent dimensions.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgm.configs import ConfigError
from dgm.data.sets import whole
from dgm.distributions import gaussian_kl
from dgm.images import inputs
from dgm.runs import Run


class Images(NamedTuple):
    """Unit images [N, C, H, W] and their classes [N], if known."""

    x: Tensor
    label: Tensor | None

    def varied(self, n: int) -> Tensor:
        """Rows of n images, all classes in turn."""
        if self.label is None:
            return torch.arange(min(n, len(self.x)))
        same = self.label.unsqueeze(0) == self.label.unsqueeze(1)
        turn = same.tril(-1).sum(1)  # how many of its class came before
        return (turn * (int(self.label.max()) + 1) + self.label).argsort(stable=True)[:n]


def test_images(run: Run, n: int, data: Any = None) -> Images:
    """The first n test images as the model sees them in evaluation."""
    data = data or run.data()
    if len(data.shape) != 3:
        raise ConfigError(f"run={run.folder}: its data ({data.name}) are points; give a run on images")
    batch = whole(data.set("test"), n)
    return Images(inputs(batch), batch.get("label"))


def able(run: Run, protocol: Any, remedy: str) -> Any:
    """The run's model. Errors: ConfigError where it cannot do what the protocol asks."""
    model = run.model()
    if not isinstance(model, protocol):
        can = " and ".join(sorted(name for name in vars(protocol) if not name.startswith("_")))
        kind = type(model).__name__
        raise ConfigError(f"run={run.folder}: its {kind} cannot be drawn so, it lacks {can}; {remedy}")
    return model


@torch.no_grad()
def batched(function: Callable[[Tensor], Tensor], x: Tensor, size: int = 500) -> Tensor:
    """A function of [N, ...] by parts of it."""
    return torch.cat([function(part) for part in x.split(size)])


def given_label(model: Any, images: Images) -> Tensor | None:
    """The labels that a conditional model needs, [N]; None for any other."""
    return images.label if getattr(model, "classes", 0) else None


@torch.no_grad()
def log_p(model: Any, x: Tensor, label: Tensor | None = None, size: int = 500) -> Tensor:
    """Exact log-likelihoods in nats: [N, C, H, W] -> [N]."""
    labels = [None] * len(x.split(size)) if label is None else label.split(size)
    return torch.cat([model.log_likelihood(part, label=one) for part, one in zip(x.split(size), labels, strict=True)])


def posterior(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """x: [N, C, H, W] -> mu, logvar of q(z | x): [N, Z] each."""
    both = batched(lambda part: torch.stack(model.posterior(part), 1), x)
    return both[:, 0], both[:, 1]


def kl_per_dimension(mu: Tensor, logvar: Tensor) -> Tensor:
    """Mean KL to the prior of every latent, nats: [N, Z] twice -> [Z]."""
    return gaussian_kl(mu, logvar).mean(0)


def squared_error(x: Tensor, again: Tensor) -> Tensor:
    """Sum over pixels: [N, C, H, W] twice -> [N]."""
    return (x - again).square().flatten(1).sum(1)


def reconstruct(model: Any, x: Tensor) -> Tensor:
    """Decoded codes of images: [N, C, H, W] -> the same shape."""
    return batched(lambda part: model.decode(model.encode(part)), x)


def setting(run: Run, key: str) -> Any:
    """A value of the run's config by its dotted key. Errors: ConfigError where there is none."""
    value: Any = run.config
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            raise ConfigError(f"run={run.folder}: has no {key}, which this figure compares; give runs with it")
        value = value[name]
    return value


def alike(runs: Iterable[Run], *keys: str) -> None:
    """Refuse runs whose numbers must not stand in one picture, because they differ in one of the keys."""
    first, *others = runs
    for key in keys:
        wanted = setting(first, key)
        for run in others:
            if setting(run, key) != wanted:
                raise ConfigError(
                    f"run={run.folder}: {key}={setting(run, key)} but {key}={wanted} in {first.folder.name}; "
                    "one picture needs runs that agree in it, give a folder with only those"
                )


def by(runs: Iterable[Run], key: str) -> dict[Any, list[Run]]:
    """Runs grouped by a value of their config, in its order."""
    groups: dict[Any, list[Run]] = {}
    for run in sorted(runs, key=lambda run: setting(run, key)):
        groups.setdefault(setting(run, key), []).append(run)
    return groups


def spread(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation over seeds; 0 for one seed."""
    numbers = torch.tensor(values, dtype=torch.float64)
    sd = numbers.std().item() if len(values) > 1 else 0.0
    return {"mean": numbers.mean().item(), "sd": sd, "seeds": len(values)}


def groups_of(runs: list[Run]) -> dict[str, list[Run]]:
    """Runs that differ in nothing but their seed, under the overrides that tell them apart."""
    told, groups = differing(runs), dict[str, list[Run]]()
    for run in runs:
        named = [f"{key.rpartition('.')[2]}={value}" for key, value in run.overrides.items() if key in told]
        groups.setdefault(" ".join(named) or "all", []).append(run)
    return groups


def differing(runs: list[Run]) -> set[str]:
    """Overrides that differ between runs, the seed aside."""
    keys = {key for run in runs for key in run.overrides} - {"seed"}
    return {key for key in keys if key == "loss" or len({run.overrides.get(key) for run in runs}) > 1}
