"""Search: Optuna driven by ask and tell, through whatever launcher; the same command goes on with it.

A trial is judged by what was validated, at the update whose weights are kept; test measurements choose nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn

from dgm.callbacks.pruning import Pruning
from dgm.configs import ConfigError
from dgm.runs import home, unidentified
from dgm.sweeps.grid import Grid

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from dgm.sweeps.study import Space

Direction = Literal["minimize", "maximize"]


class Search(Grid):
    """`trials` in all, `batch` asked for at once; objectives: name in the validation curve -> direction.

    The study lies in OUT/STUDY/search.log. A trial that was under way when everything ended is brought to its end
    first, with its own parameters; a failed or diverged one counts as failed and ends nothing.
    """

    def __init__(
        self,
        out: str,
        study: str | None,
        trials: Annotated[int, Ge(1)] = 20,
        batch: Annotated[int, Ge(1)] = 1,
        sampler: Literal["tpe", "random"] = "tpe",
        pruner: Literal["none", "median", "hyperband"] = "none",
        seed: Annotated[int, Ge(0)] = 0,
        objectives: dict[str, Direction] | None = None,
        params: dict[str, str] | None = None,
    ) -> None:
        super().__init__(params)
        if study is None:
            raise ConfigError("study=null: a search goes on where it is found again; name it with study=NAME")
        if trials < 1 or batch < 1:
            raise ConfigError(f"hydra.sweeper.trials={trials}, hydra.sweeper.batch={batch}: each must be at least 1")
        self.folder, self.trials, self.batch = home(out, study), trials, batch
        self.sampler, self.pruner, self.seed = sampler, pruner, seed
        self.objectives: dict[str, str] = dict(objectives or {"val/loss": "minimize"})
        for name in self.objectives:
            if not name.startswith("val/"):
                raise ConfigError(f"hydra.sweeper.objectives.{name}: only validation may choose; take a val/ name")
        if pruner != "none" and len(self.objectives) > 1:
            raise ConfigError(f"hydra.sweeper.pruner={pruner}: cannot prune by several objectives; set it to none")

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Ask, launch, tell, until there are enough trials."""
        from dgm.sweeps import study as trials

        space, fixed = self.space(arguments)
        study = trials.opened(self.folder, self.objectives, (self.sampler, self.seed), self.pruner)
        same = sorted(word for word in fixed if not unidentified(word.lstrip("+~").split("=")[0]))
        trials.defined(study, {"space": {key: str(value) for key, value in space.items()}, "fixed": same})
        before = [point(fixed, trial) for trial in trials.finished(study)]
        jobs = [job for job in self.look(before) if job] if before else []
        left = trials.under_way(study)
        while left or len(study.trials) < self.trials:
            asked = left or trials.ask(study, space, min(self.batch, self.trials - len(study.trials)))
            left = []
            points = [point(fixed, trial) for trial in asked]
            with self.told():
                done = self.launch(points, asked[0].number)
            for trial, job in zip(asked, done, strict=True):
                trials.tell(study, trial, job, self.objectives)
            jobs += done
            trials.summarise(study, self.folder, self.objectives)
        return jobs

    def space(self, arguments: list[str]) -> tuple["Space", list[str]]:
        """What is searched, and what is the same in all trials."""
        from dgm.sweeps.study import distribution

        parser = OverridesParser.create(config_loader=self.context.config_loader)
        overrides = parser.parse_overrides(arguments)
        given = {override.key_or_group for override in overrides}
        overrides += parser.parse_overrides([f"{k}={v}" for k, v in self.params.items() if k not in given])
        overrides = list({override.key_or_group: override for override in overrides}.values())  # the last one counts
        searched = {o.key_or_group: distribution(o) for o in overrides if o.is_sweep_override()}
        if not searched:
            raise ConfigError("sweep=search: nothing to search; give a key several values, or interval(low,high)")
        return searched, [o.input_line or "" for o in overrides if o.key_or_group not in searched]

    @contextmanager
    def told(self) -> Iterator[None]:
        """Within it, a job can find the study it belongs to; its own number comes with its point."""
        words = {"DGM_SEARCH": str(self.folder.resolve()), "DGM_OBJECTIVE": next(iter(self.objectives))}
        words = {} if self.pruner == "none" else words | {"DGM_PRUNER": self.pruner}
        os.environ.update(words)
        try:
            yield
        finally:
            for name in words:
                del os.environ[name]


def pruning() -> list[Pruning]:
    """The callback of a job that is a trial, found by what its sweeper left in the environment; else none."""
    words = [os.environ.get(f"DGM_{name}", "") for name in ("SEARCH", "TRIAL", "PRUNER", "OBJECTIVE")]
    if not all(words):
        return []
    from dgm.sweeps.study import trial

    return [Pruning(trial(Path(words[0]), int(words[1]), words[2]), words[3])]


def point(fixed: list[str], trial: "FrozenTrial") -> list[str]:
    """The overrides of a trial."""
    number = f"+hydra.job.env_set.DGM_TRIAL='{trial.number}'"
    return [*fixed, *(f"{key}={value}" for key, value in trial.params.items()), number]
