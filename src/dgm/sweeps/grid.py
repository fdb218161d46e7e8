"""The grid: all combinations of the swept values, every one checked before the first job starts."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dgm.sweeps.plan import plan

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
        """One job per point; a failed job does not stop the others, a finished run needs none."""
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        overrides = parser.parse_overrides(arguments)
        given = {override.key_or_group for override in overrides}
        more = [f"{key}={values}" for key, values in self.params.items() if key not in given]
        return self.launch(product(overrides + parser.parse_overrides(more)), 0)

    def launch(self, points: list[Point], first: int) -> list[JobReturn]:
        """Results of all points, in their order."""
        results = self.look(points)
        to_do = [point for point, result in zip(points, results, strict=True) if result is None]
        jobs = iter(self.launcher.launch(to_do, initial_job_idx=first) if to_do else ())
        return [next(jobs) if result is None else result for result in results]

    def look(self, points: list[Point]) -> list[JobReturn | None]:
        """Let the task check every point, note in the study what is to come, and return what is finished already."""
        look: Any = getattr(self.task, "look", None)
        if look is None:
            return [None] * len(points)
        words = [[word for word in point if not word.lstrip("+~").startswith("hydra")] for point in points]
        configs = composed(self.context.config_loader, self.config, points)
        found = [look(config, own) for config, own in zip(configs, words, strict=True)]
        for study in dict.fromkeys(folder.parent for folder, _ in found):
            names = [folder.name for folder, _ in found if folder.parent == study]
            plan(study, sorted(set().union(*words)), names, self.side_by_side(len(names)))
        return [finished(own, result) for own, (_, result) in zip(words, found, strict=True)]

    def side_by_side(self, points: int) -> int:
        """How many jobs the launcher runs at once."""
        slots: Any = getattr(self.launcher, "slots", None)
        return len(slots(points)) if slots else 1


def finished(overrides: Point, result: Any) -> JobReturn | None:
    """A job that need not be launched."""
    if result is None:
        return None
    job = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    job.return_value = result
    return job


def composed(loader: ConfigLoader, base: DictConfig, points: list[Point]) -> Iterator[DictConfig]:
    """The config of each point, without Hydra's part. Points that choose the same groups are composed once, and get
    their other values afterwards, which is the order Hydra itself keeps; it takes 0.1 s a point otherwise."""
    parser = OverridesParser.create(config_loader=loader)
    known: dict[Any, DictConfig] = {}
    for point in points:
        values = [word for word in point if plain_value(loader, word)]
        groups = tuple(word for word in point if word not in values)
        if groups not in known:
            whole = loader.load_sweep_config(base, list(groups))
            known[groups] = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
        config = copy.deepcopy(known[groups])
        try:
            for override in parser.parse_overrides(values):
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            config = loader.load_sweep_config(base, point)  # says what is wrong
        yield config


def plain_value(loader: ConfigLoader, word: str) -> bool:
    """Whether an override sets a value and chooses no group."""
    key = word.partition("=")[0]
    return not set("+~@/") & set(key) and not key.startswith("hydra.") and not loader.get_group_options(key)


def product(overrides: list[Override]) -> list[Point]:
    """All combinations of the swept values, the last one varying fastest; of a key given twice the later counts."""
    choices: dict[str, Point] = {}
    for override in overrides:
        word = override.input_line or ""
        key = word.split("=")[0]
        swept = override.is_sweep_override()
        choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()] if swept else [word]
    return [list(point) for point in itertools.product(*choices.values())]
