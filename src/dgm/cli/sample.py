"""`dgm sample`: images from a trained run, as one picture and as an array."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, MinLen
from PIL import Image

from dgm.cli.compose import compose
from dgm.configs import ConfigError, check
from dgm.images import grid, quantise
from dgm.runs import Run


def command(arguments: list[str]) -> int:
    """Write samples_SEED.png, and samples_SEED.npy with uint8 [N, C, H, W]; print the paths."""
    config = compose("sample", arguments)
    check(sample, config)
    run = Run.open(config["run"])
    model = run.model()
    if not hasattr(model, "sample"):
        raise ConfigError(f"run={run.folder}: {type(model).__name__} cannot sample; it only reconstructs")
    with torch.no_grad():
        images = model.sample(config["n"], generator=torch.Generator().manual_seed(config["seed"]))
    if images.dim() != 4:
        raise ConfigError(f"run={run.folder}: draws points {list(images.shape[1:])}, not images; use its model in code")
    folder = Path(config["out"] or run.path("samples"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_seed{config['seed']}"
    Image.fromarray(grid(images, columns=max(1, round(config["n"] ** 0.5))).numpy()).save(path.with_suffix(".png"))
    np.save(path.with_suffix(".npy"), quantise(images).numpy())
    print(path.with_suffix(".png"), path.with_suffix(".npy"), sep="\n")
    return 0


def sample(
    *, run: Annotated[str, MinLen(1)], n: Annotated[int, Ge(1)], seed: Annotated[int, Ge(0)], out: str | None
) -> None:
    """The signature that a sample config is checked against."""
