"""Everything periodic: randomness, sample grids, weight averaging, progress, guards, the table on disk."""
