"""Sets that torchvision reads and, on first use, downloads: MNIST, FashionMNIST, KMNIST, CIFAR10."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dgm.data.sets import Arrays, Splits

Name = Literal["MNIST", "FashionMNIST", "KMNIST", "CIFAR10"]


def load(dataset: Name, root: str) -> Splits:
    """The official training and test images under `root`, as torchvision lays them out.

    Errors: FileNotFoundError where the files are neither there nor can be fetched, ValueError where one is corrupt.
    """
    return Splits(_read(dataset, root, True), _read(dataset, root, False))


def _read(dataset: Name, root: str, train: bool) -> Arrays:
    from torchvision import datasets

    make = getattr(datasets, dataset)
    try:
        data = make(root, train=train, download=False)
    except RuntimeError:
        data = _download(dataset, root, train)
    except (ValueError, OSError, EOFError, KeyError, AssertionError) as error:
        raise ValueError(f"data.root={root}: a file of {dataset} is corrupt ({error}); delete it and run again") from error
    images = torch.as_tensor(np.asarray(data.data))
    pixels = images.permute(0, 3, 1, 2).contiguous() if images.dim() == 4 else images.unsqueeze(1)
    labels: Tensor = torch.as_tensor(data.targets, dtype=torch.long)
    if len(labels) != len(pixels):
        raise ValueError(f"data.root={root}: {len(pixels)} images but {len(labels)} labels of {dataset}; delete them")
    return Arrays({"image": pixels, "label": labels})


def _download(dataset: Name, root: str, train: bool):  # noqa: ANN202  (torchvision's own class)
    from torchvision import datasets

    try:
        return getattr(datasets, dataset)(root, train=train, download=True)
    except Exception as error:  # noqa: BLE001  any failure of a download means the same to a user
        where = Path(root).resolve()
        raise FileNotFoundError(
            f"data.root={root}: {dataset} is not under {where} and could not be downloaded ({error}); "
            f"set DGM_DATA or data.root to the folder that holds {dataset}/"
        ) from error
