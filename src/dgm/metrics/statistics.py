"""Features -> value: pure functions of float tensors. Shapes: N, M samples, F features, L classes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CHUNK = 1000  # rows of a distance matrix, or of a covariance, held at once
SEED = 2020  # of torch-fidelity's own shuffles, so that equal features give its very numbers

Compare = Callable[[Tensor, Tensor], Tensor]


class Spread(NamedTuple):
    """A mean and a standard deviation over subsets or splits."""

    mean: float
    std: float


class Interval(NamedTuple):
    """Two ends of a confidence interval."""

    low: float
    high: float


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [F] and unbiased covariance [F, F] of features [N, F], both float64."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, not {len(features)}")
    mean = features.mean(0, dtype=torch.float64)
    cov = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
    for chunk in features.split(CHUNK):
        centred = chunk.double() - mean
        cov.addmm_(centred.T, centred)
    return mean, cov / (len(features) - 1)


def frechet(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """|mean1 - mean2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)) (Heusel et al., 2017, eq. 6).

    The trace of the root is the sum of the roots of the eigenvalues of cov1 cov2, which are those of the
    symmetric cov1^(1/2) cov2 cov1^(1/2): real, and negative only by rounding, however singular they are.
    """
    values, vectors = torch.linalg.eigh(cov1)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp_min(0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross
    return max(float(distance), 0.0)


def kernel_distance(x: Tensor, y: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = SEED) -> Spread:
    """Squared MMD between x: [N, F] and y: [M, F], over random subsets (Binkowski et al., 2018, sec. 4).

    `subset_size` is lowered to the size of the smaller set.
    """
    size = min(subset_size, len(x), len(y))
    if size < 2:
        raise ValueError(f"a kernel distance needs 2 samples of each kind, not {len(x)} and {len(y)}")
    rng = np.random.RandomState(seed)  # as torch-fidelity draws them, x before y
    values = [squared_mmd(_draw(x, size, rng), _draw(y, size, rng)) for _ in range(subsets)]
    return Spread(float(np.mean(values)), float(np.std(values)))


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Unbiased estimate for x, y: [N, F] (Binkowski et al., 2018, eq. 4); may fall below 0."""
    n = len(x)
    within = sum(k.sum(dtype=torch.float64) - k.trace().double() for k in (_kernel(x, x), _kernel(y, y)))
    return float(within / (n * (n - 1)) - 2 * _kernel(x, y).mean(dtype=torch.float64))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _draw(x: Tensor, size: int, rng: np.random.RandomState) -> Tensor:
    return x[torch.from_numpy(rng.choice(len(x), size, replace=False)).to(x.device)]


def inception_score(logits: Tensor, splits: int = 10, seed: int = SEED) -> Spread:
    """exp E KL(p(y | x) || p(y)) of logits [N, L] over `splits` parts (Salimans et al., 2016, sec. 4).

    Fewer parts are made where there are fewer samples than parts.
    """
    order = np.random.RandomState(seed).permutation(len(logits))
    log_p = logits[torch.from_numpy(order).to(logits.device)].double().log_softmax(1)
    n, splits = len(log_p), min(splits, len(log_p))
    parts = [log_p[i * n // splits : (i + 1) * n // splits] for i in range(splits)]
    scores = [_score(part) for part in parts]
    return Spread(float(np.mean(scores)), float(np.std(scores)))


def _score(log_p: Tensor) -> float:
    p = log_p.exp()
    return float((p * (log_p - p.mean(0).log())).nansum(1).mean().exp())


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Share of fakes inside the real manifold, and of reals inside the fake one; real: [N, F], fake: [M, F].

    A manifold is a union of closed balls up to each k-th neighbour (Kynkaanniemi et al., 2019, eq. 1).
    """
    precision, recall = (
        float((_balls(centres, points, k, torch.le)[1] > 0).double().mean())
        for centres, points in ((real, fake), (fake, real))
    )
    return precision, recall


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """Mean real balls around a fake over k, share of real balls with a fake (Naeem et al., 2020, eq. 4, 6).

    real: [N, F], fake: [M, F]; the balls are open, as in the authors' code.
    """
    points_in_ball, balls_on_point = _balls(real, fake, k, torch.lt)
    return float(balls_on_point.double().mean() / k), float((points_in_ball > 0).double().mean())


def _balls(centres: Tensor, points: Tensor, k: int, compare: Compare) -> tuple[Tensor, Tensor]:
    """Points in each ball [N], balls around each point [M]; a ball ends at its centre's k-th neighbour."""
    centres, points = centres.double(), points.double()
    k = min(k, len(centres) - 1)
    inside, holding = [], torch.zeros(len(points), dtype=torch.long, device=points.device)
    for chunk in centres.split(CHUNK):
        # the nearest of all centres is the centre itself, hence k + 1
        radius = torch.cdist(chunk, centres).kthvalue(k + 1, dim=1, keepdim=True).values
        hits = compare(torch.cdist(chunk, points), radius)
        inside.append(hits.sum(1))
        holding += hits.sum(0)
    return torch.cat(inside), holding


def bootstrap(values: Tensor, draws: int = 1000, seed: int = 0, level: float = 0.95) -> Interval:
    """Percentile interval of the mean of values [N] (Efron, 1979)."""
    generator = torch.Generator().manual_seed(seed)
    values, n = values.detach().double().cpu(), len(values)
    means = torch.stack([values[torch.randint(n, (n,), generator=generator)].mean() for _ in range(draws)])
    low, high = means.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return Interval(low, high)
