"""`dgm train`: one config -> one run folder with weights, table, measurements and pictures; with -m, many."""

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from dgm.cli.compose import asked, explain, tree
from dgm.cli.job import Job
from dgm.cli.sweep import sweep
from dgm.cli.terminal import show_values


def command(arguments: list[str]) -> int:
    """Train one run, or with -m one per combination of the values given."""
    many = any(a in ("-m", "--multirun") for a in arguments)
    words = [a for a in arguments if a not in ("-m", "--multirun")]
    if asked(words):
        return explain("train", words)
    if many:
        return sweep(words)
    with tree(words) as (hydra, overrides):
        config = hydra.compose_config("train", overrides, run_mode=RunMode.RUN, with_log_configuration=False)
    HydraConfig.instance().set_config(config)
    show_values(Job()(config))
    return 0
