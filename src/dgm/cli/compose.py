"""From words on the command line to a composed, resolved config; Hydra's errors become one sentence each."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dgm.configs import Config, ConfigError, flatten, folder, nearest, roots

PATHS = ("run", "out", "cache", "data.root")


@contextmanager
def tree(overrides: list[str], name: str = "train") -> Iterator[tuple[Any, list[str]]]:
    """Hydra over our configuration tree, and the overrides of config `name` with the user's folder put before ours."""
    overrides = [quoted(word) for word in overrides] + [f"hydra.searchpath=[file://{own}]" for own in roots()[1:]]
    with initialize_config_dir(str(folder()), version_base="1.3"), sentences(overrides, name):
        yield GlobalHydra.instance().hydra, overrides


def quoted(word: str) -> str:
    """A path as Hydra's grammar wants it: in quotes, since our own folders have `=` and `,` in their names."""
    key, _, value = word.partition("=")
    bare = key in PATHS and value not in ("", "null") and value[0] not in "'\"$"
    escaped = value.replace("'", "\\'")
    return f"{key}='{escaped}'" if bare else word


def compose(name: str, overrides: list[str]) -> Config:
    """One resolved config, as plain containers."""
    with tree(overrides, name) as (hydra, words):
        return plain(hydra.compose_config(name, words, run_mode=RunMode.RUN, with_log_configuration=False))


def plain(config: DictConfig, resolve: bool = True) -> Config:
    """The config as plain containers, without Hydra's own part."""
    with sentences([]):
        task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        values = OmegaConf.to_container(task, resolve=resolve, throw_on_missing=resolve)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def asked(words: list[str]) -> bool:
    """Whether help is wanted."""
    return "-h" in words or "--help" in words


def explain(name: str, words: list[str]) -> int:
    """Print a command's configuration as the other words make it."""
    with tree([word for word in words if word not in ("-h", "--help")], name) as (hydra, overrides):
        config = hydra.compose_config(name, overrides, run_mode=RunMode.RUN, with_log_configuration=False)
        values = plain(config, resolve=False)
        if "???" not in flatten(values).values():
            values = plain(config)
    print(f"dgm {name} KEY=VALUE ...: the configuration, with the values it has now\n")
    print(yaml.safe_dump(values, sort_keys=False))
    return 0


@contextmanager
def sentences(overrides: list[str], name: str = "train") -> Iterator[None]:
    """Turn Hydra's and OmegaConf's errors into one sentence that names key, value and remedy."""
    try:
        yield
    except MissingConfigException as error:
        raise ConfigError(_missing(error)) from error
    except OverrideParseException as error:
        raise ConfigError(_unreadable(str(error.override), overrides, name)) from error
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(_unknown(error, overrides, name)) from error


def _missing(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    return f"{group}={option}: there is no such choice.{nearest(option, choices(group))}"


def choices(group: str) -> list[str]:
    """The names in a group, ours and the user's."""
    return sorted({path.stem for root in roots() for path in (root / group).glob("*.yaml")})


def _unreadable(word: str, overrides: list[str], name: str) -> str:
    key, keys = word.partition("=")[0].lstrip("+~"), _keys(overrides, name)
    if "=" not in word or (folder() / key).is_dir() or any(f"{k}.".startswith(f"{key}.") for k in keys):
        return f"{word}: cannot be read as KEY=VALUE; quote brackets and commas"
    return f"{word}: unknown key.{near(key, keys)}"


def _unknown(error: Exception, overrides: list[str], name: str) -> str:
    text = " ".join(str(error).split())
    cause = " ".join(str(error.__cause__ or "").split())
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{several[1]}: several values; -m trains one run for each, brackets make them a list"
    if missing := re.search(r"You must specify '([^']+)'", text):
        return f"{missing[1]}=: nothing is chosen.{nearest('', choices(missing[1]))}"
    if empty := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{empty[1]}: no value; give {empty[1]}=VALUE"
    if "Could not override ''" in text:
        return f"{text.rpartition('use +')[2]}: cannot be read as KEY=VALUE; quote brackets and commas"
    key = re.search(r"Could not override '([^']+)'", text)
    if not key:
        return text
    given = next((o for o in overrides if o.lstrip("+~").startswith(key[1] + "=")), key[1])
    if "in the defaults list" in text:
        return f"{given}: nothing that is chosen has this part; leave it out, or choose another {key[1].split('/')[0]}"
    if "Key" not in cause and "not in struct" not in cause and "struct" not in text:
        return f"{given}: {cause or text}"
    return f"{given}: unknown key.{near(key[1], _keys(overrides, name))}"


def near(key: str, keys: list[str]) -> str:
    """What may be meant: a key beside it, else one that is very like it anywhere, else what there is beside it."""
    parent, _, last = key.rpartition(".")
    beside = {k.removeprefix(f"{parent}.").split(".")[0] for k in keys if not parent or k.startswith(f"{parent}.")}
    if close := difflib.get_close_matches(last, beside, n=1, cutoff=0.6):
        return f" Did you mean {f'{parent}.' if parent else ''}{close[0]}?"
    if close := difflib.get_close_matches(key, keys, n=1, cutoff=0.8):
        return f" Did you mean {close[0]}?"
    return f" There are: {', '.join(sorted(keys if len(keys) <= 30 else beside))}." if beside else ""


def _keys(overrides: list[str], name: str) -> list[str]:
    """The keys of a config, of the groups that are chosen, to guess names from."""
    hydra: Any = GlobalHydra.instance().hydra
    chosen = (re.fullmatch(r"([\w/]+)=[\w/]+", word) for word in overrides)
    groups = [choice[0] for choice in chosen if choice and (folder() / choice[1]).is_dir()]
    groups += [word for word in overrides if word.startswith("hydra.searchpath=")]
    with sentences([]):
        config = hydra.compose_config(name, groups, run_mode=RunMode.RUN, with_log_configuration=False)
    return [key for key in flatten(plain(config, resolve=False)) if not re.search(r"^hydra\.|\b_", key)]
