"""Results on disk that are costly to make again: one file per key, tensors and plain containers only."""

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgm import files

Content = dict[str, Any]


def digest(*parts: str | int) -> str:
    """A short hash of several parts."""
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def weights_hash(state: dict[str, Tensor]) -> str:
    """Hash of the tensors of a state dict, whatever file they came in."""
    total = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(state.items()):
        total.update(f"{name}{tuple(tensor.shape)}".encode() + tensor.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def load_or_make(path: Path, make: Callable[[], Content]) -> Content:
    """What lies at `path`, or, where nothing readable does, what `make` returns, kept there from now on."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        content = make()
        write(path, content)
        return content


def write(path: Path, content: Content) -> None:
    """Save whole or not at all.

    Errors: OSError in one sentence where the folder takes no file.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        files.write(path, buffer.getvalue())
    except OSError as error:
        remedy = "free some space or set cache to another folder"
        raise OSError(f"cache={path.parent} cannot be written ({error}); {remedy}") from error
