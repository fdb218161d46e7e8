"""Variational objectives. Each gets a `Draw` and returns terms [B] in nats, the minimised one under `loss`.

Whatever is minimised, `elbo` is the evidence lower bound at beta = 1, so that runs can be compared.
Shapes: B batch, K posterior samples per image, D latent dimensions.
"""

import math
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from dgm.distributions import gaussian_kl, gaussian_log_prob, standard_normal_log_prob
from dgm.losses import Terms


class Draw(NamedTuple):
    """One stochastic pass of a variational autoencoder, all that an objective may use.

    log_px_z: [K, B] log p(x | z); z: [K, B, D] ~ q(z | x); mu, logvar: [B, D] of q;
    step: [] updates done so far, infinite in evaluation; data_size: number of training images.
    """

    log_px_z: Tensor
    z: Tensor
    mu: Tensor
    logvar: Tensor
    step: Tensor
    data_size: int


def elbo(draw: Draw, *, beta: Annotated[float, Ge(0)] = 1.0) -> Terms:
    """-log p(x | z) + beta KL(q || p): VAE at beta = 1 (Kingma & Welling, 2014, eq. 10),
    beta-VAE otherwise (Higgins et al., 2017, eq. 4)."""
    reconstruction = -draw.log_px_z.mean(0)
    kl = gaussian_kl(draw.mu, draw.logvar).sum(-1)
    return _terms(reconstruction, kl, reconstruction + beta * kl)


def capacity(
    draw: Draw,
    *,
    capacity: Annotated[float, Ge(0)] = 25.0,
    gamma: Annotated[float, Ge(0)] = 1000.0,
    ramp: Annotated[int, Gt(0)] = 100_000,
) -> Terms:
    """-log p(x | z) + gamma |KL - C|, with C growing linearly from 0 to `capacity` nats over `ramp` updates
    (Burgess et al., 2018, eq. 8)."""
    reconstruction = -draw.log_px_z.mean(0)
    kl = gaussian_kl(draw.mu, draw.logvar).sum(-1)
    target = capacity * (draw.step / ramp).clamp_max(1)
    # the paper constrains the expected KL, so the distance is taken after the mean over the batch
    penalty = gamma * (kl.mean() - target).abs()
    return _terms(reconstruction, kl, reconstruction + penalty)


def log_weights(draw: Draw) -> Tensor:
    """log p(x, z) - log q(z | x) of every sample: [K, B] (Burda et al., 2016, eq. 7)."""
    log_pz = standard_normal_log_prob(draw.z).sum(-1)
    return draw.log_px_z + log_pz - gaussian_log_prob(draw.z, draw.mu, draw.logvar).sum(-1)


def iwae(draw: Draw, *, doubly_reparameterised: bool = False) -> Terms:
    """-log 1/K sum_k w_k, the importance-weighted bound (Burda et al., 2016, eq. 8).

    `doubly_reparameterised`: the same value with the lower-variance gradient of Tucker et al. (2019, eq. 8),
    in which the encoder learns through the samples only, each path weighted once more.
    """
    reconstruction = -draw.log_px_z.mean(0)
    kl = gaussian_kl(draw.mu, draw.logvar).sum(-1)
    if not doubly_reparameterised:
        return _terms(reconstruction, kl, -_log_mean_exp(log_weights(draw)))
    log_w = log_weights(draw._replace(mu=draw.mu.detach(), logvar=draw.logvar.detach()))
    weights = log_w.detach().softmax(0)
    if draw.z.requires_grad:
        draw.z.register_hook(lambda gradient: weights.unsqueeze(-1) * gradient)
    value = -_log_mean_exp(log_w.detach())
    surrogate = -(weights * log_w).sum(0)
    return _terms(reconstruction, kl, value + surrogate - surrogate.detach())


def beta_tcvae(
    draw: Draw,
    *,
    alpha: Annotated[float, Ge(0)] = 1.0,
    beta: Annotated[float, Ge(0)] = 6.0,
    gamma: Annotated[float, Ge(0)] = 1.0,
) -> Terms:
    """-log p(x | z) + alpha MI + beta TC + gamma dimension-wise KL (Chen et al., 2018, eq. 4)."""
    reconstruction = -draw.log_px_z.mean(0)
    kl = gaussian_kl(draw.mu, draw.logvar).sum(-1)
    mutual_information, total_correlation, dimension_kl = decompose(draw)
    objective = reconstruction + alpha * mutual_information + beta * total_correlation + gamma * dimension_kl
    return _terms(reconstruction, kl, objective) | {
        "mutual_information": mutual_information,
        "total_correlation": total_correlation,
        "dimension_kl": dimension_kl,
    }


def decompose(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Single-sample estimates of MI, TC and dimension-wise KL, [B] each (Chen et al., 2018, eq. 2 and S6).

    Minibatch stratified sampling: an image's own posterior has weight 1/N, the other B-1 share the rest.
    The weights enter once, after the sum over dimensions for the joint, inside each dimension for the marginals.
    """
    z = draw.z[0]
    log_q = gaussian_log_prob(z.unsqueeze(1), draw.mu, draw.logvar)  # [B, B, D]: sample i under posterior j
    log_weight = stratified_log_weights(len(z), max(draw.data_size, len(z)), z)
    log_qz = torch.logsumexp(log_q.sum(-1) + log_weight, 1)
    log_qz_product = torch.logsumexp(log_q + log_weight.unsqueeze(-1), 1).sum(-1)
    log_qz_x = log_q.diagonal().sum(0)
    log_pz = standard_normal_log_prob(z).sum(-1)
    return log_qz_x - log_qz, log_qz - log_qz_product, log_qz_product - log_pz


def stratified_log_weights(batch: int, data_size: int, like: Tensor) -> Tensor:
    """log of the weights [B, B]: 1/N on the diagonal, (N-1)/(N (B-1)) elsewhere; every row sums to 1."""
    if batch == 1:
        return like.new_zeros(1, 1)
    other = math.log(data_size - 1) - math.log(data_size) - math.log(batch - 1) if data_size > 1 else -math.inf
    weights = like.new_full((batch, batch), other)
    return weights.fill_diagonal_(-math.log(data_size))


def _log_mean_exp(values: Tensor) -> Tensor:
    return torch.logsumexp(values, 0) - math.log(len(values))


def _terms(reconstruction: Tensor, kl: Tensor, loss: Tensor) -> Terms:
    return {"reconstruction": reconstruction, "kl": kl, "elbo": -(reconstruction + kl), "loss": loss}
