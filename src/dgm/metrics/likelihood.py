"""What a model says of the test images: its terms, bounds on log p(x) with intervals, its use of the code.

Shapes: B batch, N test images, Z latent dimensions.
"""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from dgm.distributions import gaussian_kl
from dgm.images import bits_per_dim, inputs
from dgm.metrics.classifier import chosen
from dgm.metrics.conditions import evaluating, seeded
from dgm.metrics.report import Report, Say, Source
from dgm.metrics.statistics import bootstrap

ACTIVE = 0.01  # variance over the data of a posterior mean in use (Burda et al., 2016, sec. 5.2)

Means = dict[str, Tensor]


class Likelihood:
    """Means over the test split, as the model sees it, of everything the model can say of an image, in nats.

    samples: K of the importance-weighted bound `iw_K`, taken over the first `images` images of a seeded
    shuffle, by default over all. Every batch has noise of its own, so a repetition gives the same numbers.
    """

    def __init__(
        self,
        samples: Annotated[int, Ge(1)] = 100,
        images: Annotated[int, Ge(1)] | None = None,
        batch_size: Annotated[int, Ge(1)] = 100,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.samples, self.images, self.batch_size, self.seed = samples, images, batch_size, seed

    def __call__(self, model: nn.Module, data: Source, device: torch.device, say: Say | None = None) -> Report:
        """Measure; `elbo` and `iw_K` come with the ends of a 95% bootstrap interval."""
        self.refuse(model, data)
        device = torch.device(device)
        if hasattr(model, "data_size"):
            trained: Any = model
            trained.data_size = data.size("train")  # as in training
        with evaluating(model, device):
            per_image = self._terms(model, data, device)
            values = {name: float(term.mean()) for name, term in per_image.items()}
            arrays: dict[str, list[float]] = {}
            protocol = self._protocol(data)
            if "total_correlation" in per_image:
                protocol["batch_size"] = self.batch_size  # by whose images it is estimated
            grey = getattr(getattr(model, "likelihood", None), "binary", False) and _grey(data)
            if "elbo" in per_image:
                values |= _interval("elbo", per_image["elbo"])
                values |= {} if grey else self._bits(model, data, values["elbo"])
            if hasattr(model, "posterior"):
                values["active_units"], arrays["kl_dim"] = self._code(model, data, device)
            if hasattr(model, "log_likelihood"):
                kind = str(getattr(model, "likelihood_kind", "unknown"))
                protocol["likelihood"] = "none: a cross-entropy of grey values" if grey else kind
                if kind != "exact":  # else the terms hold it already
                    values |= self._bound(model, data, device, say)
                    if self._counted(data) < data.size("test"):
                        protocol["bound_images"] = self._counted(data)
        return Report(values, protocol, arrays)

    def refuse(self, model: nn.Module, data: Source) -> None:
        """Errors: TypeError for a model that says nothing of single images."""
        if not hasattr(model, "objective"):
            name = type(model).__name__
            raise TypeError(f"metric=[likelihood]: {name} has no objective per image; leave likelihood out")

    def _terms(self, model: Any, data: Source, device: torch.device) -> Means:
        """Every term of the objective, [N] each."""
        parts = []
        for index, rows in enumerate(torch.arange(data.size("test")).split(self.batch_size)):
            with seeded(device, self.seed, 0, index):
                terms = model.objective(*_given(model, data, rows, device))
            parts.append({name: term.detach().cpu().double() for name, term in terms.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _bits(self, model: Any, data: Source, elbo: float) -> dict[str, float]:
        levels = getattr(model, "levels", None)
        one = _fetch(data, torch.zeros(1, dtype=torch.long), torch.device("cpu"))
        if levels is None or one.dim() < 4:  # a point has no levels
            return {}
        return {"bits_per_dim": bits_per_dim(-elbo, one.numel(), levels)}

    def _code(self, model: Any, data: Source, device: torch.device) -> tuple[float, list[float]]:
        """Number of active units, and the mean KL of each latent dimension [Z]."""
        batches = torch.arange(data.size("test")).split(self.batch_size)
        pairs = [model.posterior(_fetch(data, rows, device)) for rows in batches]
        mu, logvar = (torch.cat([pair[i].cpu().double() for pair in pairs]) for i in (0, 1))
        active = (mu.var(0) > ACTIVE).sum()
        return float(active), gaussian_kl(mu, logvar).mean(0).tolist()

    def _bound(self, model: Any, data: Source, device: torch.device, say: Say | None) -> dict[str, float]:
        """The bound with K samples, its mean and interval."""
        rows = chosen(data.size("test"), self._counted(data), self.seed)
        if say:
            say(f"bounding the likelihood of {len(rows)} images with {self.samples} samples each")
        parts = []
        for index, batch in enumerate(rows.split(self.batch_size)):
            with seeded(device, self.seed, 1, index):
                x, *label = _given(model, data, batch, device)
                parts.append(model.log_likelihood(x, self.samples, *label).cpu().double())
        values, name = torch.cat(parts), f"iw_{self.samples}"
        return {name: float(values.mean())} | _interval(name, values)

    def _counted(self, data: Source) -> int:
        return min(self.images or data.size("test"), data.size("test"))

    def _protocol(self, data: Source) -> dict[str, str | int | float]:
        return {"split": "test", "n": data.size("test"), "binarise": str(data.binarise), "seed": self.seed}


def _fetch(data: Source, rows: Tensor, device: torch.device) -> Tensor:
    """Test images as the model sees them: [B, ...]."""
    return inputs({name: tensor.to(device) for name, tensor in data.set("test").fetch(rows).items()})


def _grey(data: Source) -> bool:
    """Whether some of 1,000 test images have values between black and white, which no binary likelihood knows."""
    first = inputs(data.set("test").fetch(torch.arange(min(1000, data.size("test")))))
    return bool(((first > 0) & (first < 1)).any())


def _given(model: Any, data: Source, rows: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """What the model's objective takes of test images."""
    batch = {name: tensor.to(device) for name, tensor in data.set("test").fetch(rows).items()}
    return model.given(batch) if hasattr(model, "given") else (inputs(batch),)


def _interval(name: str, values: Tensor) -> dict[str, float]:
    low, high = bootstrap(values)
    return {f"{name}_low": low, f"{name}_high": high}
