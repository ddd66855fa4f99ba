"""Make a run's folder of weights that are given: under timm's keys, with their source."""

import argparse
import json
import logging
from pathlib import Path

from deit.commands import run
from deit.networks.conventions import conventions_of, differing
from deit.networks.given import FLOATS, SOURCE, given_network, located, read_published, refuse_other_classes
from deit.networks.models import CONFIG, create_given, write_config
from deit.store.checkpoints import WEIGHTS, save_weights
from deit.store.job import Job
from deit.store.results import Result, check_input, new_folder, read_job

log = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="folder of another study's run, where that is given")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    job = read_job(arguments.recipe)
    import_weights(job, arguments.output, check_input(arguments.run, job, "run") if arguments.run else None)


def import_weights(job: Job, output: Path, of_run: Result | None = None) -> None:
    """Fills the folder `output`; raises SystemExit where the weights are missing, foreign, or not the network's."""
    recipe = job.resolved()
    path, sha256 = located(recipe, job.execution.data_root, of_run)
    weights = read_published(path)
    model, own = given_network(recipe, weights, of_run)
    refuse_other_classes(recipe, own, str(path))
    try:
        net = create_given(model, weights)
    except ValueError as error:
        raise SystemExit(f"{path}: {error} Correct in params/ what is given, or the model.") from None
    whence = recipe.source.model_dump(include={"timm", "study", "run"}, exclude_none=True) or {"file": path.name}
    differs = [*differing(own, conventions_of(recipe.model, recipe.mean, recipe.std))]
    source = {"name": job.name, **whence, "sha256": sha256, "differs": differs}
    log.info("%s: %s", job.name, source)
    for kind in sorted({str(tensor.dtype) for tensor in weights.values() if tensor.dtype in FLOATS[:2]}):
        log.info("%s: what is %s in the file has the same values in torch.float32", job.name, kind)
    with new_folder(output, job) as folder:
        save_weights(folder / WEIGHTS, net.state_dict())
        write_config(folder / CONFIG, model, own.mean, own.std)
        noted = source | {"conventions": own.model_dump(mode="json")}
        (folder / SOURCE).write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
