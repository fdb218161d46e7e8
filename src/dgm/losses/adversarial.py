"""Games between a generator and a critic: logits of real and of generated images -> what each player minimises.

A logit is high where the critic takes an image for real. `critic` and `generator` are unreduced, [B].
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from dgm.losses import Terms

Convention = Literal["real", "fake"]  # what the critic's sigmoid is the probability of


def minimax(real: Tensor, fake: Tensor, convention: Convention = "real") -> Terms:
    """Both players share one value, log D(x) + log(1 - D(G(z))) (Goodfellow et al., 2014, eq. 1); saturates."""
    real, fake = _as_real(real, fake, convention)
    return {"critic": F.softplus(-real) + F.softplus(fake), "generator": -F.softplus(fake)}


def non_saturating(real: Tensor, fake: Tensor, convention: Convention = "real") -> Terms:
    """The same critic; the generator minimises -log D(G(z)) (Goodfellow et al., 2014, sec. 3)."""
    real, fake = _as_real(real, fake, convention)
    return {"critic": F.softplus(-real) + F.softplus(fake), "generator": F.softplus(-fake)}


def least_squares(real: Tensor, fake: Tensor) -> Terms:
    """Targets 1 for real, 0 for generated, 1 for the generator (Mao et al., 2017, eq. 9)."""
    return {"critic": 0.5 * ((real - 1) ** 2 + fake**2), "generator": 0.5 * (fake - 1) ** 2}


def wasserstein(real: Tensor, fake: Tensor) -> Terms:
    """The critic's gap bounds the Wasserstein-1 distance where it is 1-Lipschitz (Arjovsky et al., 2017, eq. 2)."""
    return {"critic": fake - real, "generator": -fake}


def hinge(real: Tensor, fake: Tensor) -> Terms:
    """Logits beyond the margin cost nothing (Lim & Ye, 2017; Miyato et al., 2018, eq. 16 and 17)."""
    return {"critic": F.relu(1 - real) + F.relu(1 + fake), "generator": -fake}


def _as_real(real: Tensor, fake: Tensor, convention: Convention) -> tuple[Tensor, Tensor]:
    """Logits of P(real), whatever the critic's are of."""
    return (real, fake) if convention == "real" else (-real, -fake)
