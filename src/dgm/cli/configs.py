"""`dgm configs`: what can be chosen, read from the configuration tree and the user's own folder."""

from pathlib import Path

from dgm.cli.table import Parser
from dgm.configs import ConfigError, nearest, roots

HIDDEN = ("hydra",)


def command(arguments: list[str]) -> int:
    """Print all groups, or one."""
    parser = Parser("dgm configs", description="The groups of the configuration and the choices of each.")
    parser.add_argument("group", nargs="?", help="only this group")
    group = parser.parse_args(arguments).group
    known = groups(roots())
    if group and group not in known:
        raise ConfigError(f"{group}: there is no such group.{nearest(group, known)}")
    for name in [group] if group else known:
        show(name, known[name])
    return 0


def groups(places: list[Path]) -> dict[str, dict[str, Path]]:
    """group -> choice -> file, both by name; a group inside another is called `outer/inner`."""
    found: dict[str, dict[str, Path]] = {}
    for place in places:
        for path in sorted(place.rglob("*.yaml")):
            group = path.parent.relative_to(place).as_posix()
            if group != "." and group.split("/")[0] not in HIDDEN and not group.endswith("/base"):
                found.setdefault(group, {})[path.stem] = path
    return {group: dict(sorted(found[group].items())) for group in sorted(found)}


def show(group: str, choices: dict[str, Path]) -> None:
    """A group's choices, one a line."""
    print(f"{group}=")
    width = max(len(name) for name in choices)
    for name, path in choices.items():
        print(f"  {name:<{width}}  {description(path)}".rstrip())
    print()


def description(path: Path) -> str:
    """The first line of a yaml that is all comment, Hydra's directives aside; empty where there is none."""
    lines = (line.strip() for line in path.read_text().splitlines())
    words = (line.lstrip("# ") for line in lines if line.startswith("#"))
    return next((line for line in words if line and not line.startswith("@package")), "")
