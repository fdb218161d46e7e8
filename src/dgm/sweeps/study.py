"""A search on disk: Optuna's study, what it asks, what it is told. Imported only by who searches."""

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.core.utils import JobReturn, JobStatus
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dgm.configs import ConfigError
from dgm.files import write
from dgm.runs import Run
from dgm.sweeps.parallel import JobLeft

Space = dict[str, BaseDistribution]
STORAGE, SUMMARY, NAME = "search.log", "search.json", "search"


def storage(folder: Path) -> JournalStorage:
    """The study's file: appended to, safe for several processes, readable after any end."""
    return JournalStorage(JournalFileBackend(str(folder / STORAGE)))


def pruner(name: str) -> optuna.pruners.BasePruner:
    """By the median of the earlier trials, or by successive halving of several widths (Li et al., 2018)."""
    makers: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
    }
    return makers[name]()


def sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimators (Bergstra et al., 2011), aware of trials under way; or at random."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def opened(folder: Path, objectives: dict[str, str], sampling: tuple[str, int], pruning: str) -> optuna.Study:
    """The study in a folder, begun where there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    kept, directions = storage(folder), [StudyDirection[word.upper()] for word in objectives.values()]
    known = [study for study in kept.get_all_studies() if study.study_name == NAME]
    if known and known[0].directions != directions:
        raise ConfigError(f"{folder}: holds a search for other objectives; give this one another study=")
    study = optuna.create_study(
        storage=kept, study_name=NAME, directions=directions, pruner=pruner(pruning), load_if_exists=True
    )
    # a sampler's state is not stored, and one of the same seed would repeat its first trials
    study.sampler = sampler(sampling[0], sampling[1] + len(study.trials))
    return study


def trial(folder: Path, number: int, pruning: str) -> optuna.trial.Trial:
    """A trial as its own process sees it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name=NAME, storage=storage(folder), pruner=pruner(pruning))
    return optuna.trial.Trial(study, study.trials[number]._trial_id)


def defined(study: optuna.Study, definition: dict[str, Any]) -> None:
    """Note what is searched. Errors: ConfigError where the study began as another search."""
    definition = json.loads(json.dumps(definition))
    known = study.user_attrs.get("definition", definition)
    unlike = [key for key in definition if known.get(key) != definition[key]]
    if unlike:
        was, now = known.get(unlike[0]), definition[unlike[0]]
        raise ConfigError(f"another search is there ({unlike[0]} was {was}, now {now}); give this one another study=")
    study.set_user_attr("definition", definition)


def distribution(override: Override) -> BaseDistribution:
    """Hydra's grammar -> Optuna's: a list or choice(...), range(low,high,step), interval(low,high), tag(log, ...)."""
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        log, low, high = "log" in value.tags, value.start or 0, value.end or 0
        if low >= high or (log and low <= 0):
            raise ConfigError(f"{override.input_line}: no interval; give the lower end first, above 0 where it is log")
        if isinstance(low, int) and isinstance(high, int):  # int(interval(...)): Hydra makes floats of others
            return IntDistribution(low, high, log)
        return FloatDistribution(float(low), float(high), log)
    if isinstance(value, RangeSweep) and all(isinstance(v, int) for v in (value.start, value.stop, value.step)):
        values = range(int(value.start or 0), int(value.stop or 0), int(value.step))
        return IntDistribution(values[0], values[-1], step=values.step)
    if isinstance(value, ChoiceSweep | RangeSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    raise ConfigError(f"{override.input_line}: cannot be searched; give a list, range(...) or interval(...)")


def under_way(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that were asked for and never told of: everything ended before they did."""
    return [trial for trial in study.trials if trial.state == TrialState.RUNNING]


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that have their values."""
    return [trial for trial in study.trials if trial.state == TrialState.COMPLETE]


def ask(study: optuna.Study, space: Space, n: int) -> list[FrozenTrial]:
    """The next n trials."""
    numbers = [study.ask(space).number for _ in range(n)]
    return [study.trials[number] for number in numbers]


def tell(study: optuna.Study, trial: FrozenTrial, job: JobReturn, objectives: dict[str, str]) -> None:
    """The values of a trial, or that it failed; one that another process trains, or was told to leave, stays under way.

    Of two processes on one search the first that tells is heard.
    """
    run, say = job._return_value, functools.partial(study.tell, trial.number, skip_if_finished=True)
    if isinstance(run, JobLeft):
        return
    if job.status is not JobStatus.COMPLETED or not isinstance(run, Run):
        say(state=TrialState.FAIL)
    elif run.state == "pruned":
        say(state=TrialState.PRUNED)
    elif run.state == "done":
        values = judged(run, list(objectives))
        finite = all(map(math.isfinite, values))
        say(values if finite else None, None if finite else TrialState.FAIL)


def judged(run: Run, names: list[str]) -> list[float]:
    """The objectives at the update whose weights are kept. Errors: ConfigError where one was not validated."""
    rows: dict[str, dict[int, float]] = {}
    for row in run.curve():
        rows.setdefault(row["name"], {})[int(row["step"])] = float(row["value"])
    for name in names:
        if name not in rows:
            known = ", ".join(key for key in rows if key.startswith("val/")) or "nothing; set data.val"
            raise ConfigError(f"hydra.sweeper.objectives.{name}: not validated in {run.folder}; validated was {known}")
    keeper = run.config["callbacks"]["checkpoints"]
    kept = {step: value for step, value in rows[keeper["monitor"]].items() if math.isfinite(value)}
    if not kept:
        return [math.nan] * len(names)
    best = (min if keeper["mode"] == "min" else max)(kept, key=kept.__getitem__)
    return [rows[name].get(best, math.nan) for name in names]


def summarise(study: optuna.Study, folder: Path, objectives: dict[str, str]) -> None:
    """Write all trials, and which of them are best: one, or those that no other beats in everything."""
    done = any(trial.state == TrialState.COMPLETE for trial in study.trials)
    best = {trial.number for trial in study.best_trials} if done else set()
    trials = [
        {"trial": trial.number, "state": trial.state.name.lower(), "parameters": trial.params,
         "values": trial.values, "best": trial.number in best}
        for trial in study.trials
    ]  # fmt: skip
    write(folder / SUMMARY, json.dumps({"objectives": objectives, "trials": trials}, indent=1) + "\n")
