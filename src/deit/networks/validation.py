"""The accuracy of a run on images that it does not learn from, while it is trained: to be watched, never to be used.

It belongs to `execution`, and so to no digest: a training computes the same bits with it and without.
"""

import time

import numpy as np
import torch
from torch import nn

from deit.networks.models import fused, token_logits
from deit.networks.recipes import Validation
from deit.see.datasets import Selected, evaluation_images
from deit.see.loading import loaded
from deit.see.recipes import TrainingData
from deit.see.views import EvaluationViews, evaluation_transform
from deit.store.job import Execution

BATCH = 256


class Validator:
    """Some images of an evaluation set, and how a network's accuracy on them is found."""

    def __init__(self, data: TrainingData, precision: str, execution: Execution, device: torch.device):
        """Raises SystemExit where the images are not below the data's root, or not the declared ones."""
        asked = Validation.model_validate(execution.validation)
        images = evaluation_images(data, asked.evaluation_set, execution.data_root, asked.name)
        some = np.linspace(0, len(images) - 1, min(asked.images, len(images))).round()
        self.images = Selected(images, some)
        self.views = EvaluationViews(self.images, evaluation_transform(data, asked.view))
        self.precision, self.workers, self.device = precision, execution.workers, device

    @torch.no_grad()
    def accuracies(self, net: nn.Module) -> dict[str, float]:
        """Reading -> fraction of the images whose first choice is right; also `images` and `seconds`.

        Leaves the network's mode as it was and draws from no global generator.
        """
        start, found, first = time.perf_counter(), dict[str, int](), 0
        training = net.training
        net.eval()
        precision = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with precision, loaded(self.views, self.workers, batch_size=BATCH) as batches:
            for views in batches:
                logits = token_logits(net, views.to(self.device))
                for how in ("class", "distillation", "fusion") if len(logits) == 2 else ("class",):
                    choices = fused(logits, how).argmax(1).tolist()
                    right = (choice in self.images.targets(first + i) for i, choice in enumerate(choices))
                    found[how] = found.get(how, 0) + sum(right)
                first += len(views)
        net.train(training)
        accuracies = {how: number / len(self.images) for how, number in found.items()}
        return {"images": len(self.images), **accuracies, "seconds": time.perf_counter() - start}
