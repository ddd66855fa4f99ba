"""What a convnet's step costs a CPU with channels last in memory, as ours have them, and as torch lays networks out.

    PYTHONPATH=src:workflow python benchmarks/convnets.py [--repetitions 9]      # a minute of one core

A step of SGD (forward, cross-entropy, backward, update) of the convnets of params/cifar10-small.yaml and
params/fashion.yaml, in plain torch and fp32, on views that lie ready. Every repetition runs both, in an order of its
own. Prints the median of the repetitions' ratios of CPU time, the smallest and the largest.
"""

import argparse
import random
import time
from collections.abc import Callable
from statistics import median

import torch
from plan.studies import plan_study
from torch.nn.functional import cross_entropy

from deit.networks.models import create
from deit.networks.recipes import Model

NETWORKS = (("cifar10-small", "resnet"), ("fashion", "regnety-4gf"), ("fashion", "regnety-16gf"))
LAYOUTS = (torch.contiguous_format, torch.channels_last)
BATCH, STEPS = 50, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9)
    repetitions = parser.parse_args().repetitions
    torch.set_num_threads(1)
    for study, name in NETWORKS:
        model = next(job.resolved().model for job in plan_study(study).jobs.values() if f"/{name}/labels/" in job.name)
        steps = {layout: steps_of(model, layout) for layout in LAYOUTS}
        ratios = []
        for _ in range(repetitions + 1):
            took = {layout: steps[layout]() for layout in random.sample(LAYOUTS, 2)}
            ratios.append(took[torch.contiguous_format] / took[torch.channels_last])
        ratios = sorted(ratios[1:])  # the first one warms up
        print(f"{study}, {name}: first / last {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def steps_of(model: Model, layout: torch.memory_format) -> Callable[[], float]:
    """What takes a few steps and returns their seconds of CPU."""
    net = create(model).to(memory_format=layout).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    views = torch.randn(BATCH, model.channels, model.resolution, model.resolution).to(memory_format=layout)
    labels = torch.randint(model.classes, (BATCH,))

    def steps() -> float:
        start = time.process_time()
        for _ in range(STEPS):
            optimizer.zero_grad()
            cross_entropy(net(views), labels).backward()
            optimizer.step()
        return time.process_time() - start

    return steps


if __name__ == "__main__":
    main()
