"""In what space images are compared: what an extractor is, and the data set's own classifier as one.

Shapes: N images, B batch, C channels, H height, W width, F features, L classes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dgm.metrics.cache import digest, load_or_make, weights_hash
from dgm.metrics.classifier import FEATURES, LIMIT, VERSION, chosen, inputs, network, train
from dgm.metrics.report import Rows, Say, Source


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
                n = min(len(train_images), LIMIT)
                report(f"training a classifier to compare samples by, on {n} images")
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
