"""Check the data against what the params declare, decode every image, and write what they are: manifest.json."""

import argparse
import json
import logging
from pathlib import Path

from deit.commands import run
from deit.see.datasets import image_files, manifest_of
from deit.see.decode_check import decode_all
from deit.store.job import Job, canonical_digest
from deit.store.results import new_folder, read_job

log = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepare_data(read_job(arguments.recipe), arguments.output)


def prepare_data(job: Job, output: Path) -> None:
    """Fills the folder `output` with the manifest.

    Raises SystemExit where the data are not the declared ones, or images are damaged.
    """
    recipe, execution = job.resolved(), job.execution
    with new_folder(output, job, keep=True) as folder:
        manifest = manifest_of(recipe, execution.data_root)
        for name, split in manifest["splits"].items():
            log.info("%s: %d images of %d classes", name, split["images"], len(split["classes"]))
        if execution.decode:
            files = image_files(recipe, execution.data_root, manifest)
            decode_all(files, folder, canonical_digest(manifest), execution.threads + execution.workers)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
