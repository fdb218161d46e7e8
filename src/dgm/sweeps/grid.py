"""The grid: all combinations of the swept values, every one checked before the first job starts."""

import itertools
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

Point = list[str]


class Grid(Sweeper):
    """Hands the product of all swept values to the launcher, in one batch.

    params: values to sweep unless the command line sets them, key -> "a,b,c".
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.config: DictConfig = config
        self.context: HydraContext = hydra_context
        self.task = task_function
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """One job per point; a failed job does not stop the others."""
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        overrides = parser.parse_overrides(arguments)
        given = {override.key_or_group for override in overrides}
        more = [f"{key}={values}" for key, values in self.params.items() if key not in given]
        points = product(overrides + parser.parse_overrides(more))
        self.check(points)
        return self.launcher.launch(points, initial_job_idx=0)

    def check(self, points: list[Point]) -> None:
        """Let the task look at every point's config, where it knows how."""
        look: Any = getattr(self.task, "check", None)
        for point in points if look else []:
            look(self.context.config_loader.load_sweep_config(self.config, point))


def product(overrides: list[Override]) -> list[Point]:
    """All combinations of the swept values, the last one varying fastest; of a key given twice the later counts."""
    choices: dict[str, Point] = {}
    for override in overrides:
        word = override.input_line or ""
        key = word.split("=")[0]
        swept = override.is_sweep_override()
        choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()] if swept else [word]
    return [list(point) for point in itertools.product(*choices.values())]
