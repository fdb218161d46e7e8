"""Train one run: from its frozen config to weights, table, measurements and pictures. One process, one rank."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

from dgm.callbacks.checkpoints import WholeFiles
from dgm.callbacks.progress import Progress
from dgm.callbacks.randomness import seed_all
from dgm.callbacks.table import Table
from dgm.cli.evaluate import measure
from dgm.configs import Config, build
from dgm.runs import Run, weights_in
from dgm.sweeps.search import pruning


def fit(run: Run, config: Config) -> None:
    """Train, measure, log. Noise of the initial weights depends on the seed alone."""
    quiet()
    data = build(config["data"], "data")
    seed_all(config["seed"], 1)
    model = build(config["model"], "model")
    if config["compile"]:
        model.compile_hot()
    table, last = Table(run.path("metrics.csv")), run.path("checkpoints", "last.ckpt")
    loggers = [table, *trackers(run, config)]
    progress = Progress(config["progress"], run.note, run.provenance.get("seconds", 0.0))
    callbacks = [progress, *build(config["callbacks"], "callbacks").values(), *pruning()]
    trainer = build(config["trainer"], "trainer")(
        callbacks=callbacks, logger=loggers, plugins=[WholeFiles()], default_root_dir=str(run.folder)
    )
    begun = last.is_file()
    if trainer.is_global_zero:
        table.rewind(updates_in(last) if begun else 0)
    trainer.fit(model, datamodule=data, ckpt_path=str(last) if begun else None, weights_only=True)
    if not trainer.is_global_zero:
        return
    run.note(data=data.fingerprint(), images_per_second=progress.images_per_second)
    values = measure(run, config["metric"], data)
    for logger in loggers[1:]:
        logger.log_summary({f"test/{name}": value for name, value in values.items()})
        logger.finish()


def updates_in(checkpoint: Path) -> int:
    """How many updates a checkpoint has behind it. Errors: ConfigError where it cannot be read."""
    return int(weights_in(checkpoint)["step"])


def trackers(run: Run, config: Config) -> list[Any]:
    """The loggers of the config, told which run they follow."""
    tags = [o for o in run.provenance["overrides"] if len(o) <= 64]
    group = config["study"] or os.environ.get("DGM_GROUP")
    made = [
        make(
            folder=str(run.folder),
            id=run.folder.name.rpartition("-")[2],
            name=run.folder.name[-128:],  # a tracker's longest name
            group=group,
            tags=tags,
        )
        for make in build(config["logger"], "logger").values()
    ]
    for logger in made:
        logger.log_config(config)
    return made


def quiet() -> None:
    """Leave the terminal to what a person needs: Lightning's own lines are for its developers."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # set by Lightning at import; makes torch.cuda.is_available, which Adam asks in each step, 40 times slower
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="torch.utils.data")
