"""torch-fidelity's Inception as an extractor: the space of published FID, KID and inception scores.

Shapes: B batch, C channels, H height, W width.
"""

import os
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from dgm.metrics.cache import weights_hash
from dgm.metrics.report import Say, Source

FIDELITY = "weights-inception-2015-12-05-6726825d.pth"  # torch-fidelity's name for it


class Inception:
    """torch-fidelity's InceptionV3: 2048 features, `logits_unbiased`, TensorFlow 1's bilinear resize.

    weights: a file; else that of DGM_INCEPTION; else the one in torch's cache, downloaded on first use.
    """

    name = "inception"

    def __init__(self, weights: str | None = None, key: str = "metric.fid_inception.weights") -> None:
        self.weights, self.key = weights, key
        self.network: nn.Module | None = None
        self._fingerprint = ""

    def check(self) -> None:
        """Errors: FileNotFoundError where a file was named that is not there."""
        given = self.weights or os.environ.get("DGM_INCEPTION")
        if given and not Path(given).is_file():
            raise FileNotFoundError(
                f"{self.key}={given}: no such file; give the path of {FIDELITY} there or in DGM_INCEPTION"
            )

    def ready(self, data: Source, cache: Path, say: Say | None = None) -> "Inception":
        """Itself, with its weights read."""
        self._load()
        return self

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        self._load()
        return self._fingerprint

    @property
    def protocol(self) -> dict[str, str | int | float]:
        """Extractor, its hash, and how it resizes."""
        return {"extractor": self.name, "extractor_hash": self.fingerprint, "resize": "tf1-bilinear 299"}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B, C, H, W] -> [B, 2048], [B, 1008]; one channel is repeated to three."""
        if images.shape[1] not in (1, 3):
            raise ValueError(f"Inception takes 1 or 3 channels, not {images.shape[1]}; use metric=fid")
        colours = images.expand(-1, 3, -1, -1)
        return self._load().to(images.device)(colours)

    def _load(self) -> nn.Module:
        if self.network is None:
            self.check()
            path = self._path()
            try:
                # torch-fidelity unpickles whatever the file holds, so it is only shown files of mere tensors
                state = torch.load(path, map_location="cpu", weights_only=True)
                self.network = _architecture(path)
            except (RuntimeError, EOFError, pickle.UnpicklingError, AttributeError, TypeError) as error:
                reason = str(error).partition("\n")[0]
                wrong = f"{self.key}={path}: not torch-fidelity's Inception ({reason})"
                raise ValueError(f"{wrong}; give the path of {FIDELITY}") from error
            self._fingerprint = weights_hash(state)
        return self.network

    def _path(self) -> Path:
        given = self.weights or os.environ.get("DGM_INCEPTION")
        if given:
            return Path(given)
        path = Path(torch.hub.get_dir()) / "checkpoints" / FIDELITY
        return path if path.is_file() else self._download(path)

    def _download(self, path: Path) -> Path:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), progress=False)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"{self.key}=null: Inception's weights are not in {path.parent} and could not be downloaded "
                f"({error}); give the path of {FIDELITY} there or in DGM_INCEPTION, or use metric=fid"
            ) from error
        return path


def _architecture(path: Path) -> nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with torch.random.fork_rng(devices=[]):  # its layers draw initial weights
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(path))
