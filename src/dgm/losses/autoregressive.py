"""The objective of models with an exact likelihood. Shapes: B batch."""

from torch import Tensor

from dgm.losses import Terms


def negative_log_likelihood(log_p: Tensor) -> Terms:
    """-log p(x): [B] -> terms [B], in nats. There is no gap between evidence and bound: `elbo` is log p(x)."""
    return {"elbo": log_p, "loss": -log_p}
