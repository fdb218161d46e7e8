"""How good samples are: distances between features of generated and real images, each with its anchors.

Shapes: N images, F features, L classes, C channels, H height, W width.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from dgm.images import quantise, unit
from dgm.metrics.cache import digest, load_or_make
from dgm.metrics.classifier import chosen
from dgm.metrics.conditions import evaluating, seeded
from dgm.metrics.features import Extractor, Features
from dgm.metrics.inception import Inception
from dgm.metrics.report import Report, Rows, Say, Source, Split
from dgm.metrics.statistics import (
    density_coverage,
    frechet,
    inception_score,
    kernel_distance,
    moments,
    precision_recall,
)

VERSION = 2  # of the cached statistics
REAL = 50_000  # images behind the reference statistics
NEIGHBOURS = 5_000  # images of each kind in measures of pairs


class Reference(NamedTuple):
    """What is known of the real images. mean: [F], cov: [F, F], features: [N <= 5000, F]; anchors, NaN where one has no
    meaning."""

    mean: Tensor
    cov: Tensor
    features: Tensor
    n: int
    floor: float
    scale: float
    binarised: float


class SampleQuality:
    """FID, KID, inception score, precision, recall, density and coverage against real images of one split.

    Beside FID stand its anchors: the distance from the reference to other real images (`floor`), which no model can be
    asked to beat, and to them blurred by a 3 x 3 binomial (`scale`). The others are test images, or for a reference of
    test images training images. Real images are grey also where a model sees them binarised: what it can reach by
    drawing binary images is the distance to binarised test images (`binarised_floor`).
    samples: images drawn, by default as many as there are test images.
    """

    def __init__(
        self,
        features: Extractor,
        cache: str,
        samples: Annotated[int, Ge(2)] | None = None,
        seed: Annotated[int, Ge(0)] = 0,
        batch_size: Annotated[int, Ge(1)] = 250,
        reference: Split = "train",
    ) -> None:
        if samples is not None and samples < 2:
            raise ValueError(f"samples={samples}: a covariance needs at least 2; give more")
        self.features, self.cache, self.samples = features, Path(cache), samples
        self.seed, self.batch_size, self.reference = seed, batch_size, reference

    def refuse(self, model: nn.Module, data: Source) -> None:
        """Raise what can be known before the model is trained and the data are read."""
        if not hasattr(model, "sample"):
            name = type(model).__name__
            raise TypeError(f"metric=[fid]: {name} cannot sample, it has no prior over its codes; leave fid out")
        if len(getattr(data, "shape", (1, 1, 1))) != 3:
            raise ValueError(f"metric=[fid]: {data.name} has points, not images; leave fid out")
        if self.reference == "val" and getattr(data, "val", 2) < 2:
            raise ValueError("reference=val: data.val=0, so there are no such images; hold some out, or take train")
        self.features.check()

    def __call__(self, model: nn.Module, data: Source, device: torch.device, say: Say | None = None) -> Report:
        """Measure samples of `model`, drawn by a generator of their own."""
        self.refuse(model, data)
        _check(data)
        device = torch.device(device)
        features = self.features.ready(data, self.cache, say)
        reference = self._reference(features, data, device)
        n = self.samples or data.size("test")
        with evaluating(model, device), seeded(device, self.seed):
            fake, logits = self._generated(model, features, n, device)
        values = _values(reference, fake, logits, self.seed)
        protocol = features.protocol | {
            "n_real": reference.n,
            "n_fake": n,
            "reference": self.reference,
            "neighbours": NEIGHBOURS,
            "seed": self.seed,
            "quantisation": "uint8 round",
        }
        return Report({f"{name}_{features.name}{end}": v for (name, end), v in values.items()}, protocol)

    def _generated(self, model: nn.Module, features: Features, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Features [N, F] and logits [N, L] of n samples."""
        generator = torch.Generator().manual_seed(self.seed)
        draw: Callable[..., Tensor] = model.sample  # type: ignore[assignment]
        parts = []
        for start in range(0, n, self.batch_size):
            images = draw(min(self.batch_size, n - start), generator=generator)
            if not torch.isfinite(images).all():
                raise ValueError(f"{type(model).__name__} drew samples that are not finite; train it again")
            parts.append(_cpu(features(quantise(images.to(device)))))
        return _joined(parts)

    def _reference(self, features: Features, data: Source, device: torch.device) -> Reference:
        known = data.fingerprint(), features.fingerprint
        seen = str(data.binarise)
        key = digest(data.name, *known, features.name, self.reference, seen, VERSION, REAL, NEIGHBOURS)
        path = self.cache / "statistics" / f"{key}.pt"
        return Reference(**load_or_make(path, lambda: self._measured(features, data, device)._asdict()))

    def _measured(self, features: Features, data: Source, device: torch.device) -> Reference:
        real = self._real(features, data.raw(self.reference), device)
        others = data.raw("train" if self.reference == "test" else "test")
        mean, cov = moments(real)

        def distance(rows: Rows, blurred: bool = False) -> float:
            return frechet(mean, cov, *moments(self._real(features, rows, device, blurred)))

        few, n = real[chosen(len(real), NEIGHBOURS)].clone(), len(real)
        binarised = self.reference != "test" and data.binarise != "none"
        seen = distance(data.set("test")) if binarised else math.nan
        return Reference(mean, cov, few, n, distance(others), distance(others, blurred=True), seen)

    def _real(self, features: Features, rows: Rows, device: torch.device, blurred: bool = False) -> Tensor:
        """Features [N, F] of at most 50,000 images."""
        parts = []
        for indices in chosen(len(rows), REAL).split(self.batch_size):
            images = rows.fetch(indices)["image"].to(device)
            parts.append(_cpu(features(quantise(blur(unit(images))) if blurred else images)))
        return _joined(parts)[0]


def fid_inception(
    cache: str,
    weights: str | None = None,
    samples: Annotated[int, Ge(2)] | None = None,
    seed: Annotated[int, Ge(0)] = 0,
    batch_size: Annotated[int, Ge(1)] = 50,
    reference: Split = "train",
) -> SampleQuality:
    """In the features of torch-fidelity's Inception; weights: a file, else DGM_INCEPTION, else downloaded."""
    return SampleQuality(Inception(weights), cache, samples, seed, batch_size, reference)


def blur(images: Tensor) -> Tensor:
    """[N, C, H, W] -> the same, each pixel averaged with its neighbours by (1, 2, 1) x (1, 2, 1) / 16."""
    line = images.new_tensor([1, 2, 1]) / 4
    kernel = (line[:, None] * line).expand(images.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=images.shape[1])


def _values(real: Reference, fake: Tensor, logits: Tensor, seed: int) -> dict[tuple[str, str], float]:
    """(name, ending) -> value."""
    few = fake[chosen(len(fake), NEIGHBOURS, seed)]
    kid, score = kernel_distance(real.features, few), inception_score(logits)
    precision, recall = precision_recall(real.features, few)
    density, coverage = density_coverage(real.features, few)
    binarised = {} if math.isnan(real.binarised) else {("fid", "_binarised_floor"): real.binarised}
    return binarised | {
        ("fid", ""): frechet(*moments(fake), real.mean, real.cov),
        ("fid", "_floor"): real.floor,
        ("fid", "_scale"): real.scale,
        ("kid", ""): kid.mean,
        ("inception_score", ""): score.mean,
        ("precision", ""): precision,
        ("recall", ""): recall,
        ("density", ""): density,
        ("coverage", ""): coverage,
    }


def _check(data: Source) -> None:
    if "image" not in data.raw("test").fetch(torch.zeros(1, dtype=torch.long)):
        raise ValueError(f"data={data.name} has points, not images; leave fid out of `metric`")
    if min(data.size("train"), data.size("test")) < 2:
        raise ValueError(f"data={data.name}: fid needs at least 2 training and test images; raise data.limit")


def _cpu(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return pair[0].cpu(), pair[1].cpu()


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    features, logits = zip(*parts, strict=True)
    return torch.cat(features), torch.cat(logits)
