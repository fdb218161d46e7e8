"""What Hydra's plugin loader finds: the sweepers and launchers of dgm."""

from dgm.sweeps.grid import Grid

__all__ = ["Grid"]
