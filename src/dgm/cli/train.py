"""`dgm train`: one config -> one run folder with weights, table, measurements and pictures; with -m, many."""

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from dgm.cli.compose import compose, tree
from dgm.cli.job import Job
from dgm.cli.sweep import sweep
from dgm.cli.terminal import show_values

HELP = "dgm train [-m] KEY=VALUE ...: the configuration, with the values it has now\n"


def command(arguments: list[str]) -> int:
    """Train one run, or with -m one per combination of the values given."""
    many = any(a in ("-m", "--multirun") for a in arguments)
    words = [a for a in arguments if a not in ("-m", "--multirun")]
    if "-h" in words or "--help" in words:
        return explain([w for w in words if w not in ("-h", "--help")])
    if many:
        return sweep(words)
    with tree(words) as (hydra, overrides):
        config = hydra.compose_config("train", overrides, run_mode=RunMode.RUN, with_log_configuration=False)
    HydraConfig.instance().set_config(config)
    show_values(Job()(config))
    return 0


def explain(words: list[str]) -> int:
    """Print the composed configuration."""
    print(HELP + yaml.safe_dump(compose("train", words), sort_keys=False))
    return 0
