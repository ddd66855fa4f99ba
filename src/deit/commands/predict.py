"""Predict every image of every evaluation set with several runs: <run>/<evaluation set>.parquet."""

import argparse
import logging
from pathlib import Path

import torch
from torch import nn

from deit.commands import run
from deit.networks.distributed import set_up_torch
from deit.networks.evaluation import log_accuracy, predict, write_predictions
from deit.networks.given import load_network
from deit.see.datasets import evaluation_images
from deit.see.views import evaluation_transform
from deit.store.job import Job
from deit.store.results import check_input, new_folder, read_job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="in the recipe's order")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    job = read_job(arguments.recipe)
    data = check_input(arguments.data, job, "data")
    predict_sheet(job, arguments.runs, arguments.output, data.json("manifest.json"))


def predict_sheet(job: Job, run_folders: list[Path], output: Path, manifest: dict | None = None) -> None:
    """Fills the folder `output` with the predictions of every run on every evaluation set."""
    recipe, execution = job.resolved(), job.execution
    device = set_up_torch(execution)
    nets = trained_nets(job, run_folders, device)
    transform = evaluation_transform(recipe.data, recipe.view)
    with new_folder(output, job) as folder:
        for name, evaluation_set in recipe.evaluation_sets.items():
            images = evaluation_images(recipe.data, evaluation_set, execution.data_root, name, manifest)
            options = {"precision": recipe.precision, "device": device, "workers": execution.workers}
            for run, predictions in predict(nets, images, transform, **options).items():
                log_accuracy(predictions, run, name)
                write_predictions(predictions, folder / run / f"{name}.parquet")


def trained_nets(job: Job, run_folders: list[Path], device: torch.device) -> dict[str, nn.Module]:
    """Name of a run -> its network, with the weights of its folder.

    Raises SystemExit where the folders are not the recipe's runs in its order.
    """
    runs, data = job.resolved().runs, job.resolved().data
    if len(run_folders) != len(runs):
        raise SystemExit(f"{job.name}: {len(run_folders)} folders in --runs for {len(runs)} runs. Give one each.")
    nets = {}
    for planned, folder in zip(runs, run_folders, strict=True):
        nets[planned.run] = load_network(check_input(folder, job, planned.run), planned.model, data).to(device)
    return nets


if __name__ == "__main__":
    run(main)
