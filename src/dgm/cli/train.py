"""`dgm train`: one config -> one run folder with weights, table, measurements and pictures."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
import yaml
from annotated_types import Ge
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from dgm.callbacks.progress import Progress
from dgm.callbacks.randomness import seed_all
from dgm.callbacks.table import Table
from dgm.cli.compose import compose, plain, tree
from dgm.cli.evaluate import measure
from dgm.cli.rank import launch, world
from dgm.cli.tables import show_values
from dgm.configs import Config, ConfigError, build, check
from dgm.data.module import Data
from dgm.runs import Run, identity, provenance, slug, write, write_json

HELP = "dgm train [-m] KEY=VALUE ...: the configuration, with the values it has now\n"


def command(arguments: list[str]) -> int:
    """Train one run, or with -m one per combination of the values given."""
    many = any(a in ("-m", "--multirun") for a in arguments)
    words = [a for a in arguments if a not in ("-m", "--multirun")]
    if "-h" in words or "--help" in words:
        return explain([w for w in words if w not in ("-h", "--help")])
    quiet()
    if many:
        from dgm.cli.sweep import sweep

        return sweep(words, Job())
    with tree(words) as (hydra, overrides):
        config = hydra.compose_config("train", overrides, run_mode=RunMode.RUN, with_log_configuration=False)
    HydraConfig.instance().set_config(config)
    show_values(Job()(config))
    return 0


def explain(words: list[str]) -> int:
    """Print the composed configuration."""
    print(HELP + yaml.safe_dump(compose("train", words), sort_keys=False))
    return 0


def quiet() -> None:
    """Leave the terminal to what a person needs: Lightning's own lines are for its developers."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # set by Lightning at import; makes torch.cuda.is_available, which Adam asks in each step, 40 times slower
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="torch.utils.data")


def train(
    *,
    seed: Annotated[int, Ge(0)],
    out: str,
    study: str | None,
    cache: str,
    retry: bool,
    compile: bool,
    progress: bool,
    data: Data,
    model: pl.LightningModule,
    trainer: pl.Trainer,
    callbacks: dict[str, pl.Callback],
    logger: dict[str, Any],
    metric: dict[str, Callable],
    loss: Any,
    likelihood: Any,
    optimizer: Any,
    scheduler: Any,
) -> None:
    """The signature that a train config is checked against: its top-level keys. See `fit` for the work."""


class Job:
    """What Hydra calls for every point: checks a config, or trains it and returns the run."""

    def check(self, config: DictConfig) -> Config:
        """Hold a point against all signatures and build its model without memory, before anything starts."""
        values = plain(config)
        check(train, values)
        with torch.device("meta"):
            build(values["model"], "model")
        return values

    def __call__(self, config: DictConfig) -> Run:
        """Train a point, or take its result where it is finished already."""
        values = self.check(config)
        overrides = [str(word) for word in HydraConfig.get().overrides.task]
        run = Run(Path(values["out"]) / (values["study"] or "") / slug(overrides, identity(values)))
        return perform(run, values, overrides)


def perform(run: Run, config: Config, overrides: list[str]) -> Run:
    """Bring a run to its end: nothing where it is done, from its checkpoint where it was interrupted."""
    if run.state == "failed" and not config["retry"]:
        raise ConfigError(f"{run.folder}: failed before ({run.why}); retry=true trains it again")
    if run.state == "done":
        print(f"Done before: {run.folder}", file=sys.stderr)
        measure(run, config["metric"])
        return run
    began = time.perf_counter()
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.path("provenance.json"), provenance(overrides))
    write(run.path("config.yaml"), yaml.safe_dump(config, sort_keys=False))
    run.mark("running")
    processes = world(config)
    try:
        fit(run, config) if processes == 1 else launch(run, processes)
    except (KeyboardInterrupt, SystemExit):
        run.mark("interrupted")
        raise KeyboardInterrupt from None
    except Exception as error:
        run.mark("failed", f"{type(error).__name__}: {error}")
        raise
    write_json(run.path("provenance.json"), run.provenance | {"seconds": time.perf_counter() - began})
    run.mark("done")
    return run


def fit(run: Run, config: Config) -> None:
    """Train, measure, log. Noise of the initial weights depends on the seed alone."""
    data = build(config["data"], "data")
    seed_all(config["seed"], 1)
    model = build(config["model"], "model")
    if config["compile"]:
        model.objective = torch.compile(model.objective)
    loggers = [Table(run.path("metrics.csv")), *trackers(run, config)]
    progress = Progress(config["progress"])
    callbacks = [
        progress,
        *build(config["callbacks"], "callbacks").values(),
        *checkpoints(run, bool(data.val), config),
    ]
    trainer = build(config["trainer"], "trainer")(callbacks=callbacks, logger=loggers, default_root_dir=str(run.folder))
    last = run.path("checkpoints", "last.ckpt")
    if last.is_file():
        loggers[0].rewind(torch.load(last, map_location="cpu", weights_only=True)["global_step"])
    trainer.fit(model, datamodule=data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    trainer.save_checkpoint(last)  # also where the budget ended between two validations
    if not trainer.is_global_zero:
        return
    speed = {"training_seconds": progress.seconds, "images_per_second": progress.images_per_second}
    write_json(run.path("provenance.json"), run.provenance | speed)
    values = measure(run, config["metric"], data)
    for logger in loggers[1:]:
        logger.log_summary({f"test/{name}": value for name, value in values.items()})
        logger.finish()


def trackers(run: Run, config: Config) -> list[Any]:
    """The loggers of the config, told which run they follow."""
    tags = [o for o in run.provenance["overrides"] if len(o) <= 64]
    group = config["study"] or os.environ.get("DGM_GROUP")
    made = [
        make(
            folder=str(run.folder),
            id=run.folder.name.rpartition("-")[2],
            name=run.folder.name,
            group=group,
            tags=tags,
        )
        for make in build(config["logger"], "logger").values()
    ]
    for logger in made:
        logger.log_config(config)
    return made


def checkpoints(run: Run, validated: bool, config: Config) -> list[pl.Callback]:
    """Keep the last state to resume from, and the best by validation, or else the last, to evaluate."""
    folder, every = str(run.path("checkpoints")), config["trainer"].get("check_val_every_n_epoch", 1)
    last = pl.callbacks.ModelCheckpoint(
        folder, "last", every_n_epochs=every, save_on_train_epoch_end=True, enable_version_counter=False
    )
    if not validated:
        return [last]
    best = pl.callbacks.ModelCheckpoint(
        folder, "best", monitor="val/loss", save_top_k=1, save_weights_only=True, enable_version_counter=False
    )
    return [best, last]
