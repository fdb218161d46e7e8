"""What Hydra's plugin loader finds. It knows a plugin by the module that defines it, hence these empty classes."""

from dgm.sweeps import grid, parallel, search


class Grid(grid.Grid):
    """All combinations of the swept values."""


class Parallel(parallel.Parallel):
    """Jobs side by side on one machine."""


class Search(search.Search):
    """A search by Optuna."""
