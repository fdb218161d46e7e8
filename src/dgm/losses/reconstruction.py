"""Objectives of models that only reconstruct. Shapes: B batch, then any event dimensions."""

from typing import NamedTuple

from torch import Tensor

from dgm.losses import Terms


class Reconstruction(NamedTuple):
    """What an autoencoder gives to its loss: the input and its reconstruction, both [B, ...]."""

    x: Tensor
    x_hat: Tensor


def squared_error(pair: Reconstruction) -> Terms:
    """Sum of squared differences per image (Hinton & Salakhutdinov, 2006): [B]."""
    error = (pair.x - pair.x_hat).square().flatten(1).sum(1)
    return {"reconstruction": error, "loss": error}


def absolute_error(pair: Reconstruction) -> Terms:
    """Sum of absolute differences per image: [B]."""
    error = (pair.x - pair.x_hat).abs().flatten(1).sum(1)
    return {"reconstruction": error, "loss": error}
