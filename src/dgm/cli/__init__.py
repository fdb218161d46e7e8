"""The command line. Only this package, `sweeps` and `runs` know Hydra."""
