"""Many runs -> one tidy table -> mean and spread over seeds. Unlike measurements stay in unlike columns."""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pandas as pd

from dgm.configs import Config, flatten
from dgm.runs import UNIDENTIFIED, Run

MAIN = ("elbo", "reconstruction", "kl", "bits_per_dim", "active_units", "iw_*", "fid_*", "label_accuracy")
BESIDE = (
    "_low",
    "_high",
    "_floor",
    "_scale",
)  # endings of what stands beside a value: its interval and anchors
Setting = int | float | bool | str | None
Protocol = dict[str, Any]


def tidy(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run: run, state, a column per overridden key, one per measured value, seconds.

    A value that has the name of a key, as `loss` may have, is called test/NAME, as it is to a tracker.

    Rows are in the order of their settings; the index is a run's place in `runs`. `attrs` holds the names of
    the keys and of the values, and a note for each value that was split because its protocols differ.
    """
    keys = _keys(runs)
    protocols: dict[str, list[tuple[str, Protocol]]] = {}
    rows = [_row(run, keys, protocols) for run in runs]
    values = [column(name, i) for name in _in_order(protocols) for i in range(len(protocols[name]))]
    frame = pd.DataFrame(rows, columns=["run", "state", *keys, *values, "seconds"])
    frame[[*values, "seconds"]] = frame[[*values, "seconds"]].astype(float)
    frame.attrs = {"keys": keys, "values": values, "notes": _notes(protocols)}
    return _sorted(frame, keys)


def swept(frame: pd.DataFrame) -> list[str]:
    """Keys with more than one value, the seed excluded."""
    return [k for k in frame.attrs["keys"] if k != "seed" and frame[k].nunique(dropna=False) > 1]


def over_seeds(frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Mean, std (ddof 1, NaN for one seed) and n of each metric, columns (metric, ...), by the swept keys.

    The same run found in two folders counts once, and n counts only runs that have the value.
    """
    grouped = _groups(frame)
    columns = pd.MultiIndex.from_product([list(metrics), ["mean", "std", "n"]])
    if not metrics:
        return pd.DataFrame(index=grouped.size().index, columns=columns)
    return grouped[list(metrics)].agg(["mean", "std", "count"]).set_axis(columns, axis=1)


def _groups(frame: pd.DataFrame) -> Any:
    """Runs that differ in their seed alone; one found in two folders once."""
    keys = swept(frame)
    once = frame.assign(_state=frame["state"] != "done").sort_values("_state", kind="stable")
    by: Any = keys or (lambda _: 0)
    return _sorted(once.drop_duplicates("run"), keys).groupby(by, sort=False, dropna=False)


def mean_rows(frame: pd.DataFrame, metrics: Sequence[str]) -> list[tuple[list[str], int, list[str]]]:
    """The table over seeds as text: settings, number of runs, `mean ± std`; a lower n is told in its cell."""
    keys, rows = swept(frame), []
    sizes = [len(group) for _, group in _groups(frame)]
    for (place, row), size in zip(over_seeds(frame, metrics).iterrows(), sizes, strict=True):
        counts = [int(row[m, "n"]) for m in metrics]
        most = max(counts, default=size)
        values = [spread(row[m, "mean"], row[m, "std"]) for m in metrics]
        cells = [v if n in (0, most) else f"{v} (n={n})" for v, n in zip(values, counts, strict=True)]
        settings = place if isinstance(place, tuple) else (place,)
        rows.append(([shown(s) for s in settings if keys], most, cells))
    return rows


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs in which something was measured; all where none was."""
    rows = frame.dropna(subset=frame.attrs["values"], how="all") if frame.attrs["values"] else frame
    return rows if len(rows) else frame


def main_metrics(names: Sequence[str]) -> list[str]:
    """Those of the names that a study is first judged by, in their usual order; where none of them is there, all."""
    alone = [n for n in _in_order(names) if not base(n).endswith(BESIDE)]
    return [n for n in alone if any(fnmatch(base(n), pattern) for pattern in MAIN)] or alone


def anchors(frame: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """A sentence per distance that has anchors: what the best possible value and a visibly worse one are."""
    found = []
    for name in metrics:
        ends = ("_floor", "_scale", "_binarised_floor")
        floor, scale, binary = (_range(frame, name.replace(base(name), base(name) + end, 1)) for end in ends)
        if floor and scale:
            also = f", binarised ones at {binary} (floor of a model that draws such)" if binary else ""
            found.append(f"{name}: test images are at {floor} (floor), blurred test images at {scale} (scale){also}")
    return found


def _range(frame: pd.DataFrame, name: str) -> str:
    values = sorted({number(v) for v in frame[name].dropna()}, key=float) if name in frame else []
    return values[0] + (f" to {values[-1]}" if len(values) > 1 else "") if values else ""


def column(name: str, i: int) -> str:
    """The column of a value under its i-th protocol: `fid`, `fid [2]`, ..."""
    return name if i == 0 else f"{name} [{i + 1}]"


def base(name: str) -> str:
    """The value that a column holds: `fid [2]` -> `fid`."""
    return re.sub(r" \[\d+\]$", "", name)


def shown(value: Any) -> str:
    """A setting as a table shows it, `-` for none."""
    if value is None or value != value or value == "":
        return "-"
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if not isinstance(value, int | float | np.number):
        return str(value)
    plain = float(value)
    return f"{plain:.0f}" if plain.is_integer() and abs(plain) < 1e7 else f"{plain:.6g}"


def number(value: float) -> str:
    """A measured value: four digits, the last zeros too."""
    if np.isnan(value) or (np.isfinite(value) and float(value).is_integer() and abs(value) < 1e7):
        return shown(float(value))
    return f"{value:.1f}" if 1000 <= abs(value) < 1e7 else f"{value:#.4g}"


def spread(mean: float, std: float) -> str:
    """`mean ± std`: four digits of the mean, no more than two of the spread and no fewer than one."""
    if np.isnan(std) or std == 0 or not np.isfinite(mean):
        return number(float(mean))
    first = int(np.floor(np.log10(std)))  # the place of the spread's first digit
    enough = 3 - int(np.floor(np.log10(abs(mean)))) if mean else 0
    places = max(0, min(1 - first, max(-first, enough)))
    return f"{mean:.{places}f} ± {std:.{places}f}" if places < 7 else f"{mean:.4g} ± {std:.1e}"


def parse(text: str) -> Setting:
    """An override's text as the int, float or bool that it is, None for null, else the text."""
    if text.lower() in ("null", "~", ""):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text.strip("'\"")


def _keys(runs: Sequence[Run]) -> list[str]:
    """Overridden keys that bear on a result, as they first appear; the seed comes last."""
    found = [k for run in runs for k in run.overrides]
    ours = dict.fromkeys(k for k in found if not any(k == u or k.startswith(u + ".") for u in UNIDENTIFIED))
    return sorted(ours, key=lambda k: k == "seed")


def _row(run: Run, keys: list[str], protocols: dict[str, list[tuple[str, Protocol]]]) -> dict[str, Any]:
    flat, overrides = flatten(run.config), run.overrides
    row: dict[str, Any] = {"run": run.folder.name, "state": run.state}
    row |= {key: _setting(key, flat, overrides) for key in keys}
    for name, measure, value, protocol in _measured(run):
        name = f"test/{name}" if name in keys else name
        known = protocols.setdefault(name, [])
        if (measure, protocol) not in known:
            known.append((measure, protocol))
        row[column(name, known.index((measure, protocol)))] = value
    return row | {"seconds": run.provenance.get("seconds")}


def _setting(key: str, flat: Config, overrides: dict[str, str]) -> Setting:
    """From the config, which also knows what was not overridden; choices of a group only overrides know."""
    value = flat.get(key)
    if value is None:
        return parse(overrides.get(key, ""))
    return value if isinstance(value, int | float | str) else json.dumps(value)


def _measured(run: Run) -> Iterator[tuple[str, str, float, Protocol]]:
    """(name, metric, value, flat protocol) of all that was measured."""
    for measure, part in run.result.items():
        protocol = flatten(part.get("protocol") or {})
        yield from ((name, measure, value, protocol) for name, value in part["values"].items())


def _in_order(names: Any) -> list[str]:
    """Main metrics first, in their usual order, the others as they came."""

    def place(name: str) -> int:
        return next((i for i, pattern in enumerate(MAIN) if fnmatch(base(name), pattern)), len(MAIN))

    return sorted(names, key=place)


def _notes(protocols: dict[str, list[tuple[str, Protocol]]]) -> list[str]:
    """One sentence per split column: in what its protocol differs from that of the first."""
    split = ((name, known, i) for name, known in protocols.items() for i in range(1, len(known)))
    return [_note(name, i, known[0], known[i]) for name, known, i in split]


def _note(name: str, i: int, first: tuple[str, Protocol], other: tuple[str, Protocol]) -> str:
    old, new = {"metric": first[0]} | first[1], {"metric": other[0]} | other[1]
    unlike = [k for k in dict.fromkeys([*old, *new]) if old.get(k) != new.get(k)]
    said = "; ".join(f"{k} = {shown(new.get(k))} where {name} has {shown(old.get(k))}" for k in unlike)
    return f"{column(name, i)}: measured by another protocol, not comparable: {said}"


def _sorted(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Rows by their settings: none, numbers by size, words by alphabet."""
    order = sorted(frame.index, key=lambda i: [_rank(frame.at[i, key]) for key in keys])
    return frame.loc[order]


def _rank(value: Any) -> tuple[int, float, str]:
    if value is None or value != value:
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, int | float | np.number) else (2, 0.0, str(value))
