"""In what space images are compared: extractors of features and logits from uint8 images.

Shapes: N images, B batch, C channels, H height, W width, F features, L classes.
"""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dgm.metrics.cache import digest, load_or_make, weights_hash
from dgm.metrics.classifier import FEATURES, LIMIT, VERSION, chosen, inputs, network, train
from dgm.metrics.report import Rows, Say, Source

FIDELITY = "weights-inception-2015-12-05-6726825d.pth"  # torch-fidelity's name for it


class Features(Protocol):
    """Where images become points; `protocol` says all that a value measured here depends on."""

    name: str

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        ...

    @property
    def protocol(self) -> dict[str, str | int | float]:
        """Extractor, its hash, and how it resizes."""
        ...

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B, C, H, W] -> features [B, F], logits [B, L], on the device of the images."""
        ...


class Extractor(Protocol):
    """A way to features, of which some must see the data first."""

    def check(self) -> None:
        """Raise what can be known before any work."""
        ...

    def ready(self, data: Source, cache: Path, say: Say | None = None) -> Features:
        """Features for images like those of `data`."""
        ...


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
                raise ValueError(
                    f"{self.key}={path}: not torch-fidelity's Inception ({reason}); give the path of {FIDELITY}"
                ) from error
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


class OwnClassifier:
    """The way to the features of a classifier trained on the data set itself."""

    def check(self) -> None:
        """Nothing can be known before the data are read."""

    def ready(self, data: Source, cache: Path, say: Say | None = None) -> "Classifier":
        """The data set's classifier, from the cache or trained now."""
        train_set, test_set = _labelled(data, data.raw("train")), _labelled(data, data.raw("test"))
        key = f"{data.name}-{data.fingerprint()}"
        return Classifier.fit_or_load(*train_set, *test_set, key, cache, say)


def _labelled(data: Source, rows: Rows) -> tuple[Tensor, Tensor]:
    batch = rows.fetch(chosen(len(rows), LIMIT))
    if "label" not in batch:
        raise ValueError(
            f"data={data.name} has no labels to train a classifier on; measure it by metric=fid_inception, "
            "or leave fid out of `metric`"
        )
    return batch["image"], batch["label"]


class Classifier:
    """The penultimate layer of a classifier of the data set's own classes: `dgm.metrics.classifier`."""

    name = "classifier"

    def __init__(self, network: nn.Sequential, accuracy: float) -> None:
        self.network, self.accuracy = network, accuracy
        self.fingerprint = weights_hash(network.state_dict())

    @classmethod
    def fit_or_load(
        cls,
        train_images: Tensor,
        train_labels: Tensor,
        test_images: Tensor,
        test_labels: Tensor,
        key: str,
        cache: Path,
        report: Callable[[str], None] | None = None,
    ) -> "Classifier":
        """From the cache, by the hash of `key` (of the data) and the recipe, or trained now.

        images: uint8 [N, C, H, W], labels: int64 [N]; the test images only give the accuracy on record.
        """
        shape, classes = tuple(train_images.shape[1:]), int(max(train_labels.max(), test_labels.max())) + 1

        def make() -> dict[str, Any]:
            if report:
                report(f"training a classifier to compare samples by, on {min(len(train_images), LIMIT)} images")
            fitted = cls(train(train_images, train_labels, classes), 0.0)
            guesses = torch.cat([fitted(part)[1].argmax(1) for part in test_images.split(500)])
            accuracy = (guesses == test_labels).double().mean().item()
            return {"state": fitted.network.state_dict(), "accuracy": accuracy}

        content = load_or_make(cache / "classifiers" / f"{digest(key, VERSION, classes)}.pt", make)
        built = _frozen(network, shape, classes)
        built.load_state_dict(content["state"])
        if report:
            report(f"classifier features: {content['accuracy']:.2%} of the test images classified correctly")
        return cls(built, content["accuracy"])

    @property
    def protocol(self) -> dict[str, str | int | float]:
        """Extractor, its hash, its accuracy; it does not resize."""
        known = {"extractor": self.name, "extractor_hash": self.fingerprint, "resize": "none"}
        return {**known, "extractor_accuracy": round(self.accuracy, 4), "features": FEATURES}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B, C, H, W] -> [B, 64], [B, L]."""
        body, head = self.network.to(images.device)
        features = body(inputs(images))
        return features, head(features)


def _frozen(make: Callable[..., nn.Sequential], *arguments: Any) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        return make(*arguments).eval().requires_grad_(False)
