"""`dgm report`: one html page about all runs in a folder."""

from pathlib import Path

from dgm.cli.table import Parser
from dgm.configs import ConfigError
from dgm.files import write
from dgm.runs import find


def command(arguments: list[str]) -> int:
    """Write the page and print where it is."""
    parser = Parser("dgm report", description="One self-contained html page about all runs in a folder.")
    parser.add_argument("folder", help="a folder with runs in it, at any depth")
    parser.add_argument("--out", help="the file to write; else FOLDER/report.html")
    options = parser.parse_args(arguments)
    runs = find(options.folder)
    out = Path(options.out or Path(options.folder, "report.html"))
    if out.is_dir():
        raise ConfigError(f"--out={out}: is a folder; give the name of a file")
    from dgm.figures.report import page

    folder = Path(options.folder).resolve()
    write(out, page(runs, folder.name, folder))
    print(out)
    return 0
