"""Objectives as pure functions: no networks, no state, unreduced nats [B] as named terms, total under `loss`."""

from torch import Tensor

Terms = dict[str, Tensor]
