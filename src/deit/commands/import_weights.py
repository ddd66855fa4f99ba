"""Make a run's folder of weights that others have published: under timm's keys, with their source."""

import argparse
import json
import logging
from pathlib import Path

from deit.commands import run
from deit.networks.models import CONFIG, create_published, write_config
from deit.networks.released import FLOATS, located, read_published
from deit.store.checkpoints import WEIGHTS, save_weights
from deit.store.job import Job
from deit.store.results import new_folder, read_job

SOURCE = "source.json"
log = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    import_weights(read_job(arguments.recipe), arguments.output)


def import_weights(job: Job, output: Path) -> None:
    """Fills the folder `output`; raises SystemExit where the weights are missing, foreign, or not the network's."""
    recipe = job.resolved()
    path, sha256 = located(recipe, job.execution.data_root)
    weights = read_published(path)
    try:
        net = create_published(recipe.model, weights)
    except ValueError as error:
        raise SystemExit(f"{path}: {error} Correct released.weights, or the model.") from None
    source = {"run": job.name, "hub": recipe.hub, "file": path.name, "sha256": sha256}
    log.info("%s: %s", job.name, source)
    for kind in sorted({str(tensor.dtype) for tensor in weights.values() if tensor.dtype in FLOATS[:2]}):
        log.info("%s: what is %s in the file has the same values in torch.float32", job.name, kind)
    with new_folder(output, job) as folder:
        save_weights(folder / WEIGHTS, net.state_dict())
        write_config(folder / CONFIG, recipe.model, recipe.mean, recipe.std)
        (folder / SOURCE).write_text(json.dumps(source, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
