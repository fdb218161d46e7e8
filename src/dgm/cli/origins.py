"""Where each value of a config came from: the command line, or the last yaml that sets it."""

from typing import Any

import yaml
from hydra.types import RunMode

from dgm.cli.compose import tree
from dgm.configs import flatten, roots

COMMAND_LINE = "the command line"


def origins(overrides: list[str]) -> dict[str, str]:
    """Dotted key -> `the command line` or a yaml below conf/; an interpolation counts where it is written."""
    with tree(overrides) as (hydra, words):
        listed = hydra.config_loader.compute_defaults_list("train", words, RunMode.RUN).defaults
    found: dict[str, str] = {}
    for entry in listed:
        if not entry.config_path.startswith("hydra/"):
            found |= dict.fromkeys(_keys(entry.config_path, entry.package), f"conf/{entry.config_path}.yaml")
    given = (word.lstrip("+~").partition("=")[0] for word in overrides)
    return found | dict.fromkeys(given, COMMAND_LINE)


def _keys(path: str, package: str) -> list[str]:
    """What a yaml sets, as dotted keys of the whole config."""
    files = (root / f"{path}.yaml" for root in reversed(roots()))
    file = next((file for file in files if file.is_file()), None)
    content: Any = yaml.safe_load(file.read_text()) if file else {}
    values = {key: value for key, value in (content or {}).items() if key not in ("defaults", "hydra")}
    return [key for key in flatten(values, package) if key]


def origin(found: dict[str, str], key: str) -> str:
    """Of a key, or of the nearest key above it."""
    while key and key not in found:
        key = key.rpartition(".")[0]
    return found.get(key, "unknown")
