"""`dgm COMMAND ...`: finds the command and turns errors into one sentence. Imports nothing heavy before it must."""

import errno
import importlib
import linecache
import os
import signal
import sys
import traceback

USAGE = """\
dgm: a laboratory for deep generative models

  dgm train    KEY=VALUE ...            train, evaluate and draw one run
  dgm train -m KEY=VALUE,VALUE ...      the same for every combination of values
  dgm evaluate run=RUN metric=[...]     measure a trained run
  dgm sample   run=RUN n=64             draw images from a trained run
  dgm figure   figure=NAME run=RUN      draw a figure and the numbers behind it
  dgm table    FOLDER [--format F]      runs and their numbers, mean and spread over seeds
  dgm report   FOLDER                   one html page about all runs in a folder
  dgm status   FOLDER                   done, running, failed and missing runs, and the time left
  dgm diff     RUN RUN                  what differs, and where each value came from
  dgm rerun    RUN                      repeat a run from its frozen config and compare the weights
  dgm export   RUN                      the weights as safetensors
  dgm configs  [GROUP]                  what can be chosen: models, data, losses, ...

Flags of all commands:
  --config-dir DIR   your own configuration folder, searched before ours
  --trust PACKAGE    a package of yours whose classes a config may name
  --traceback        show where in the code an error arose
  -h, --help         this page; `dgm train --help` shows the configuration

  dgm train model=beta_vae data=mnist loss.beta=4
  dgm train -m model=beta_vae loss.beta=1,2,4 model.latent=2,10 seed=0,1,2
"""
COMMANDS = (
    *("train", "evaluate", "sample", "figure", "table", "report"),
    *("status", "diff", "rerun", "export", "configs"),
)


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being told to end is the same as Ctrl-C
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Run a command, return its exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    name, arguments = argv[0], argv[1:]
    if name not in COMMANDS:
        from dgm.configs import nearest

        print(f"dgm {name}: no such command.{nearest(name, COMMANDS)}", file=sys.stderr)
        return 2
    whole = "--traceback" in arguments or bool(os.environ.get("DGM_TRACEBACK"))
    arguments, flags = split_flags([a for a in arguments if a != "--traceback"])
    for flag, values in flags.items():
        if any(not value or "=" in value or value.startswith("-") for value in values):
            print(f"Error: --{flag}: what? Give --{flag} NAME", file=sys.stderr)
            return 2
    if flags["trust"]:
        os.environ["DGM_TRUST"] = ",".join(filter(None, [os.environ.get("DGM_TRUST"), *flags["trust"]]))
        sys.path.insert(0, os.getcwd())  # a package of the user's own, in the folder where the command is given
    if flags["config-dir"]:
        os.environ["DGM_CONFIG_DIR"] = os.path.abspath(flags["config-dir"][-1])
    try:
        return importlib.import_module(f"dgm.cli.{name}").command(arguments)
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on where it stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the one place where an error becomes a sentence
        if whole:
            raise
        print(f"Error: {sentence(error)}", file=sys.stderr)
        return 1


def split_flags(arguments: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Take `--trust P` and `--config-dir D` (or with `=`) out of the arguments."""
    rest: list[str] = []
    flags: dict[str, list[str]] = {"trust": [], "config-dir": []}
    words = iter(arguments)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in flags:
            flags[name].append(value if equals else next(words, ""))
        else:
            rest.append(word)
    return rest, flags


def sentence(error: BaseException) -> str:
    """An error as one line; unexpected kinds keep their name, and say how to see more."""
    text = " ".join(str(error).partition("Exception raised from")[0].split()) or type(error).__name__
    if getattr(error, "errno", None) == errno.ENOSPC or "PytorchStreamWriter failed" in text:
        file = getattr(error, "filename", None)
        place = f" ({file})" if file else ""
        return f"the disk is full{place}; free some space and give the same command again, which goes on from there"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}; correct the path or its permissions"
    expected = type(error).__module__.startswith("dgm.") or isinstance(error, FileNotFoundError) or ours(error)
    return text if expected else f"{type(error).__name__}: {text} (--traceback shows where)"


def ours(error: BaseException) -> bool:
    """Whether a statement of ours raised it, in words meant for a person, and no accident."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames or not isinstance(error, ValueError | TypeError | RuntimeError):
        return False
    frame, line = frames[-1]
    code = linecache.getline(frame.f_code.co_filename, line).strip()
    return frame.f_globals.get("__name__", "").startswith("dgm.") and code.startswith("raise ")


if __name__ == "__main__":
    main()
