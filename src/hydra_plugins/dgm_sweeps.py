"""What Hydra's plugin loader finds. It knows a plugin by the module that defines it, hence these empty classes."""

from dgm.sweeps import grid


class Grid(grid.Grid):
    """All combinations of the swept values."""
