"""Sets that torchvision reads and, on first use, downloads: MNIST, FashionMNIST, KMNIST, CIFAR10."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dgm.data.sets import Arrays, Splits

Name = Literal["MNIST", "FashionMNIST", "KMNIST", "CIFAR10"]

TIMEOUT = 20.0  # seconds that a server may stay silent; urllib by itself would wait for ever


def load(dataset: Name, root: str) -> Splits:
    """The official training and test images under `root`, as torchvision lays them out.

    Errors: FileNotFoundError where files are missing and cannot be fetched, ValueError where one is corrupt.
    """
    folder = Path(root).expanduser()
    return Splits(_read(dataset, folder, True), _read(dataset, folder, False))


def _read(dataset: Name, folder: Path, train: bool) -> Arrays:
    data = _open(dataset, folder, train)
    images = torch.as_tensor(np.asarray(data.data))
    pixels = images.permute(0, 3, 1, 2).contiguous() if images.dim() == 4 else images.unsqueeze(1)
    labels: Tensor = torch.as_tensor(data.targets, dtype=torch.long)
    if len(labels) != len(pixels):
        raise _corrupt(dataset, folder, train, f"{len(pixels)} images but {len(labels)} labels")
    return Arrays({"image": pixels, "label": labels})


def _open(dataset: Name, folder: Path, train: bool) -> Any:
    """torchvision's own object, downloaded if it has to be."""
    from torchvision import datasets

    try:
        return getattr(datasets, dataset)(folder, train=train, download=False)
    except (RuntimeError, ValueError, TypeError, OSError, EOFError, KeyError, AssertionError) as error:
        if not (isinstance(error, RuntimeError) and "download=True" in str(error)):
            raise _corrupt(dataset, folder, train, _sentence(error)) from error
    _download(dataset, folder)
    return getattr(datasets, dataset)(folder, train=train, download=False)


def _download(dataset: Name, folder: Path) -> None:
    """Fetch into a folder of its own and move what is complete, so that no half-written file is ever read."""
    from torchvision import datasets

    make = getattr(datasets, dataset)
    where = folder.resolve()
    intact, broken = _archives(make, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".download-", dir=folder) as name, _timeout(TIMEOUT):
            for archive in intact:
                _put(archive, Path(name) / archive.relative_to(folder), shutil.copyfile)
            make(name, download=True)
            for file in [path for path in Path(name).rglob("*") if path.is_file()]:
                _put(file, folder / file.relative_to(name), Path.replace)
    except Exception as error:  # any failure of a download means the same to a user
        found = f", where {', '.join(broken)} is damaged," if broken else ""
        raise FileNotFoundError(
            f"data.root={folder}: {dataset} is missing or incomplete under {where}{found} and could not be "
            f"downloaded ({_sentence(error)}); set DGM_DATA or data.root to the folder of {_home(dataset)}"
        ) from error


def _archives(make: Any, folder: Path) -> tuple[list[Path], list[str]]:
    """Archives that are there already, by their published checksums: (paths of intact, names of broken)."""
    from torchvision.datasets.utils import check_integrity

    published = getattr(make, "resources", None) or [(make.filename, make.tgz_md5)]
    home = folder / make.__name__ / "raw" if hasattr(make, "resources") else folder
    present = [(home / name, md5) for name, md5 in published if (home / name).is_file()]
    intact = [path for path, md5 in present if check_integrity(path, md5)]
    return intact, [path.name for path, _ in present if path not in intact]


def _put(source: Path, target: Path, move: Any) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    move(source, target)


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """A time limit for every socket that is opened inside and sets none itself."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _home(dataset: Name) -> str:
    return "cifar-10-batches-py" if dataset == "CIFAR10" else f"{dataset}/raw"


def _corrupt(dataset: Name, folder: Path, train: bool, why: str) -> ValueError:
    split = "training" if train else "test"
    where = folder.resolve() / _home(dataset)
    return ValueError(
        f"data.root={folder}: a {split} file of {dataset} is corrupt ({why}); delete {where} and run again"
    )


def _sentence(error: Exception) -> str:
    """An error's text on one line, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
