"""Which modes of a known mixture a model's samples reach. Shapes: N samples, D dimensions, K components."""

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from dgm.metrics.conditions import evaluating
from dgm.metrics.report import Report, Say, Source


class Modes:
    """Samples within `radius` standard deviations of their nearest mode are of high quality; a mode is covered where
    one is (Metz et al., 2017, sec. 3.1; Srivastava et al., 2017, sec. 4.1). On the line also the Wasserstein-1
    distance between as many samples and test points, by their order.
    """

    def __init__(
        self,
        samples: Annotated[int, Ge(1)] = 2500,
        radius: Annotated[float, Gt(0)] = 3.0,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.samples, self.radius, self.seed = samples, radius, seed

    def __call__(self, model: nn.Module, data: Source, device: torch.device, say: Say | None = None) -> Report:
        """Measure."""
        means, stds = mixture(data)
        with evaluating(model, device), torch.no_grad():
            drawn: Any = model.sample(self.samples, generator=torch.Generator().manual_seed(self.seed))  # type: ignore[operator]
        x = drawn.cpu().double()
        values = covered(x, means, stds, self.radius)
        if x.shape[1] == 1:
            points = data.set("test").fetch(torch.arange(min(self.samples, data.size("test"))))["point"].double()
            values["wasserstein_1"] = wasserstein_1(x[: len(points), 0], points[:, 0])
        return Report(values, {"n": self.samples, "radius": self.radius, "seed": self.seed})

    def refuse(self, model: nn.Module, data: Source) -> None:
        """Errors: TypeError for data without known modes."""
        mixture(data)


def mixture(data: Any) -> tuple[Tensor, Tensor]:
    """Means [K, D] and deviations [K] of the density behind a data set. Errors: TypeError where there is none."""
    density: Any = getattr(data.source, "keywords", {}).get("density")
    if not hasattr(density, "components"):
        raise TypeError(f"metric=[modes]: {data.name} is no mixture with known modes; leave modes out")
    means, stds, _ = density.components()
    return means, stds


def covered(x: Tensor, means: Tensor, stds: Tensor, radius: float) -> dict[str, float]:
    """Samples [N, D] against modes [K, D]."""
    distance, nearest = torch.cdist(x, means).min(1)
    good = distance <= radius * stds[nearest]
    reached = torch.bincount(nearest[good], minlength=len(means))
    share = reached.double() / max(1, int(reached.sum()))
    return {
        "modes": float((reached > 0).sum()),
        "high_quality": good.double().mean().item(),
        "between": (~good).double().mean().item(),
        "effective_modes": torch.special.entr(share).sum().exp().item() * float(good.any()),
    }


def wasserstein_1(a: Tensor, b: Tensor) -> float:
    """Exact for as many points on a line: the mean distance of sorted pairs, [N], [N]."""
    return (a.sort().values - b.sort().values).abs().mean().item()
