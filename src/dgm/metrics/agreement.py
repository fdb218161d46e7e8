"""Does a conditional model draw what it is asked for? Shapes: N samples."""

from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import nn

from dgm.images import quantise
from dgm.metrics.conditions import evaluating, seeded
from dgm.metrics.features import OwnClassifier
from dgm.metrics.report import Report, Say, Source


class LabelAgreement:
    """Share of labelled samples that an independent classifier of the data gives that label, all classes alike; and
    the same with the wanted labels shuffled, which must be at chance."""

    def __init__(
        self,
        cache: str,
        samples: Annotated[int, Ge(2)] = 2000,
        seed: Annotated[int, Ge(0)] = 0,
        batch_size: Annotated[int, Ge(1)] = 250,
    ) -> None:
        self.cache, self.samples, self.seed, self.batch_size = Path(cache), samples, seed, batch_size

    def refuse(self, model: nn.Module, data: Source) -> None:
        """Errors: TypeError for a model that takes no labels."""
        if not getattr(model, "classes", 0):
            raise TypeError(
                f"metric=[label_agreement]: {type(model).__name__} takes no labels; "
                "set model.conditional=true where it can be, or leave it out"
            )

    def __call__(self, model: nn.Module, data: Source, device: torch.device, say: Say | None = None) -> Report:
        """Measure."""
        self.refuse(model, data)
        classifier: Any = OwnClassifier().ready(data, self.cache, say)
        generator = torch.Generator().manual_seed(self.seed)
        wanted = torch.arange(self.samples) % int(getattr(model, "classes"))  # noqa: B009
        found = []
        with evaluating(model, device), seeded(device, self.seed), torch.no_grad():
            draw: Any = model.sample
            for label in wanted.split(self.batch_size):
                images = draw(len(label), generator=generator, label=label.to(device))
                found.append(classifier(quantise(images))[1].argmax(1).cpu())
        right = torch.cat(found)
        shuffled = wanted[torch.randperm(len(wanted), generator=generator)]
        values = {
            "label_accuracy": (right == wanted).double().mean().item(),
            "label_accuracy_shuffled": (right == shuffled).double().mean().item(),
        }
        protocol = classifier.protocol | {"n": self.samples, "seed": self.seed}
        return Report(values, protocol)
