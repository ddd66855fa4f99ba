"""Compare the class and the distillation token of a run, as parameters and after each block: tokens.json."""

import argparse
import json
import logging
from pathlib import Path

from torch.utils.data import Subset

from deit.commands import run
from deit.networks.distributed import set_up_torch
from deit.networks.evaluation import batches
from deit.networks.given import load_network
from deit.networks.token_cosines import input_cosine, layer_cosines
from deit.see.datasets import evaluation_images
from deit.see.views import EvaluationViews, evaluation_transform
from deit.store.job import Job
from deit.store.results import Result, check_input, new_folder, read_job

log = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    job = read_job(arguments.recipe)
    data = check_input(arguments.data, job, "data")
    compare_tokens(job, check_input(arguments.run, job, "run"), arguments.output, data.json("manifest.json"))


def compare_tokens(job: Job, run: Result, output: Path, manifest: dict | None = None) -> None:
    """Fills the folder `output`; always in fp32, as bf16 would round cosines near 1 to three digits."""
    recipe, execution = job.resolved(), job.execution
    with new_folder(output, job) as folder:
        device = set_up_torch(execution)
        net = load_network(run, recipe.run.model, recipe.data).to(device)
        images = evaluation_images(recipe.data, recipe.evaluation_set, execution.data_root, manifest=manifest)
        views = EvaluationViews(images, evaluation_transform(recipe.data, recipe.view))
        first = Subset(views, range(min(recipe.images, len(views))))
        with batches(first, device, execution.workers) as shown:
            layers, count = layer_cosines(net, shown)
        comparison = {"run": recipe.run.run, "input_cosine": input_cosine(net), "layers": layers, "images": count}
        log.info("%s", comparison)
        (folder / "tokens.json").write_text(json.dumps(comparison, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
