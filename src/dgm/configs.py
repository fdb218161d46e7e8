"""Plain configs -> checked values -> objects.

A config is a mapping; `_target_` names a callable, `_partial_: true` leaves it uncalled, the other keys are its
arguments. Constraints stand in the signatures of the callables; `check` holds a config against them.
"""

import difflib
import functools
import importlib
import inspect
import os
import typing
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

Config = dict[str, Any]
MARKS = ("_target_", "_partial_")
TRUSTED = (
    *(f"dgm.{room}" for room in ("losses", "nn", "data", "modules", "metrics", "callbacks", "figures", "schedules")),
    *("torch.nn", "torch.optim", "torchmetrics", "torch.distributions"),
    *(f"pytorch_lightning.{room}" for room in ("trainer", "callbacks", "loggers", "strategies", "plugins")),
)


class ConfigError(ValueError):
    """A value that cannot be used: names the key, the value and the remedy."""


def folder() -> Path:
    """Where the configuration tree lies: inside the installed package, or beside `src` in a checkout."""
    here = Path(__file__).resolve().parent
    return here / "conf" if (here / "conf").is_dir() else here.parents[1] / "conf"


def roots() -> list[Path]:
    """The folders that hold configs; the user's own comes last, so that its files win as they do in a run."""
    own = os.environ.get("DGM_CONFIG_DIR")
    if own and not Path(own).is_dir():
        raise ConfigError(f"--config-dir={own}: there is no such folder; give the one that holds your yaml files")
    return [folder(), *([Path(own)] if own else [])]


def nearest(word: str, known: Collection[str]) -> str:
    """` Did you mean ...?` for a name that is not among the known ones, which are listed where they are few."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    guess = f" Did you mean {close[0]}?" if close else ""
    return guess + (f" There are: {', '.join(sorted(known))}." if 0 < len(known) <= 30 else "")


def flatten(value: Any, key: str = "") -> dict[str, Any]:
    """Nested mappings -> one mapping of dotted keys."""
    if not isinstance(value, dict):
        return {key: value}
    return {k: v for name, item in value.items() for k, v in flatten(item, f"{key}.{name}".strip(".")).items()}


def trusted() -> tuple[str, ...]:
    """Packages whose code a config may name: ours, and those the user trusts by name (DGM_TRUST, comma-separated)."""
    return TRUSTED + tuple(filter(None, os.environ.get("DGM_TRUST", "").split(",")))


def resolve(target: str, key: str) -> Callable[..., Any]:
    """The class or function a dotted path names, if it lives in a trusted package."""
    home, _, name = target.rpartition(".")
    if not _inside(target):
        raise ConfigError(f"{key}._target_={target}: not in a trusted package; name it with --trust if you wrote it")
    try:
        found = functools.reduce(getattr, [name], importlib.import_module(home))
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key}._target_={target}: no such thing ({error}); correct the path") from error
    # `dgm.nn.mlp.os.system` starts well and ends elsewhere: what counts is where the thing was defined
    if not callable(found) or not _inside(f"{getattr(found, '__module__', '')}.{name}"):
        raise ConfigError(f"{key}._target_={target}: not defined in a trusted package; name it with --trust")
    return found


def _inside(path: str) -> bool:
    return any(path == room or path.startswith(room + ".") for room in (*trusted(), "pytorch_lightning.Trainer"))


def is_call(value: Any) -> bool:
    """Whether a value is to be turned into an object."""
    return isinstance(value, dict) and "_target_" in value


def build(value: Any, key: str = "config") -> Any:
    """Config -> object, depth first: mappings with `_target_` are called, everything else stays plain."""
    if isinstance(value, list):
        return [build(item, f"{key}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    arguments = {name: build(item, f"{key}.{name}") for name, item in value.items() if name not in MARKS}
    if not is_call(value):
        return arguments
    target = resolve(value["_target_"], key)
    if value.get("_partial_"):
        return functools.partial(target, **arguments) if arguments else target
    try:
        return target(**arguments)
    except (ValueError, TypeError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"{key}: {error}") from error


def check(target: Callable[..., Any], config: Config, key: str = "", partial: bool = False) -> None:
    """Hold the arguments in a config, and all configs inside, against the signatures of what they call.

    Raises ConfigError on the first unknown key, missing key, wrong type, value out of range or unfit pair.
    """
    signature = inspect.signature(target)
    hints = _hints(target)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    arguments = {name: value for name, value in config.items() if name not in MARKS}
    for name in arguments:
        if name not in signature.parameters and not open_ended:
            known = [n for n in signature.parameters if n != "self"]
            raise ConfigError(f"{_join(key, name)}={_short(arguments[name])}: unknown key.{nearest(name, known)}")
    for name, parameter in signature.parameters.items():
        if _required(parameter) and name not in arguments and not partial:
            raise ConfigError(f"{_join(key, name)}: missing; {_name(target)} needs it")
    calls = {name: value for name, value in arguments.items() if is_call(value)}
    for name, value in arguments.items():
        if name in hints and name not in calls:
            _check_value(value, hints[name], _join(key, name))
    for path, value in _calls(arguments, key):
        check(resolve(value["_target_"], path), value, path, bool(value.get("_partial_")))
    for name, value in calls.items():
        if name in hints:
            _check_pair(value, hints[name], _join(key, name), _name(target))


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Annotations as types; none where a library writes some that exist for type checkers only."""
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except NameError:
        return {}


def _calls(value: Any, key: str) -> Iterator[tuple[str, Config]]:
    """The outermost calls within plain containers."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        path = _join(key, str(name))
        if is_call(item):
            yield path, item
        else:
            yield from _calls(item, path)


@functools.cache
def _adapter(hint: Any) -> TypeAdapter | None:
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None  # a type that only an object can have


def _check_value(value: Any, hint: Any, key: str) -> None:
    if any(True for _ in _calls(value, key)):
        return  # a container of calls: each is checked by its own signature
    try:
        adapter = _adapter(hint)
    except TypeError:  # an unhashable hint
        adapter = None
    if adapter is None:
        return
    try:
        # strict for scalars, so that "4" is no number; containers in yaml are lists whatever the signature says
        adapter.validate_python(value, strict=not isinstance(value, list | dict))
    except ValidationError as error:
        first = error.errors()[0]
        where = _join(key, ".".join(str(part) for part in first["loc"] if isinstance(part, int)))
        raise ConfigError(f"{where}={_short(first['input'])}: {first['msg'].lower()}{_wanted(hint)}") from error


def _wanted(hint: Any) -> str:
    options = [
        option for part in (hint, *get_args(hint)) if get_origin(part) is typing.Literal for option in get_args(part)
    ]
    return f" (one of {', '.join(map(str, options))})" if options else ""


def _check_pair(value: Config, hint: Any, key: str, owner: str) -> None:
    """A function injected for a `Callable[[A], B]` must take an A; an injected class must be of the hinted class."""
    target = resolve(value["_target_"], key)
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if hint is Any:
        return
    if inspect.isclass(hint) and inspect.isclass(target) and not getattr(hint, "_is_protocol", False):
        if not issubclass(target, hint):
            raise ConfigError(f"{key}={value['_target_']}: {owner} needs a {hint.__name__} here; choose another")
        return
    if get_origin(hint) is not Callable and get_origin(hint) is not typing.get_origin(Callable[[], None]):
        return
    wanted = get_args(hint)[0]
    if wanted is ... or inspect.isclass(target):
        return
    hints = typing.get_type_hints(target)
    free = [n for n, p in inspect.signature(target).parameters.items() if n not in value and _required(p)]
    asked = [hints.get(name, Any) for name in free]  # without an annotation it takes anything
    if len(asked) != len(wanted) or any(a not in (Any, w) for a, w in zip(asked, wanted, strict=True)):
        takes, gives = (", ".join(map(_type_name, side)) for side in (asked, wanted))
        raise ConfigError(
            f"{key}={value['_target_']}: cannot meet {owner}, which gives it ({gives}) where it takes ({takes}); "
            "choose one made for this model"
        )


def _type_name(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint))


def _required(parameter: inspect.Parameter) -> bool:
    free = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or parameter.name == "self"
    return parameter.default is parameter.empty and not free


def _join(key: str, name: str) -> str:
    return f"{key}.{name}".strip(".")


def _name(target: Callable[..., Any]) -> str:
    return getattr(target, "__qualname__", str(target))


def _short(value: Any) -> str:
    text = value.get("_target_", "{...}") if isinstance(value, dict) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
