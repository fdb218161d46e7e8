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
    """Hands the product of all swept values to the launcher, in one batch."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.config, self.context, self.task = config, hydra_context, task_function
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """One job per point; a failed job does not stop the others."""
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        points = product(parser.parse_overrides(arguments))
        self.check(points)
        return self.launcher.launch(points, initial_job_idx=0)

    def check(self, points: list[Point]) -> None:
        """Let the task look at every point's config, where it knows how."""
        look: Any = getattr(self.task, "check", None)
        for point in points if look else []:
            look(self.context.config_loader.load_sweep_config(self.config, point))


def product(overrides: list[Override]) -> list[Point]:
    """All combinations of the swept values, the last one varying fastest."""
    choices = [
        [f"{o.input_line.split('=')[0]}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [o.input_line]
        for o in overrides
        if o.input_line is not None
    ]
    return [list(point) for point in itertools.product(*choices)]
