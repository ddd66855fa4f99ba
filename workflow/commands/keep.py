"""Results that the present plan does not use: listed with their sizes, and removed on request.

    python workflow keep [STUDY] [--caches] [--prune]

Without --prune it only lists. Results of former params are kept until they are pruned, so that taking an edit back
trains nothing. --caches also lists the teachers' logits whose students are all trained. A new student of such a teacher
makes its cache again, and nothing else. What dvc.lock records, today's or an older commit's, can be fetched again after
pruning: `git checkout <commit> dvc.lock && dvc checkout`.
"""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

from call.recorded import RecordsRefused, listing, recorded_folders
from jobs.run_lock import holder, is_held, told_gone
from plan.lookup import PRODUCT
from plan.plan import Plan
from plan.studies import plan_study
from study.problem import ParamsError

from commands._study import add_study, named_or_chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_study(parser)
    parser.add_argument("--caches", action="store_true", help="list also the caches that no unfinished training reads")
    parser.add_argument("--prune", action="store_true", help="remove what is listed")
    arguments = parser.parse_args()
    plan = chosen_plan(arguments.study)
    folders = [*unplanned_results(plan), *(idle_caches(plan) if arguments.caches else [])]
    show(plan.name, folders)
    if arguments.prune:
        refuse_beside_jobs(plan.name)
        for folder in folders:
            remove(folder)
        remove_locks(plan)
        print("removed; `dvc repro` records it" if folders else "nothing to remove")


def chosen_plan(study: str | None) -> Plan:
    """The plan of a study, of the one in params/study.yaml where none is named."""
    try:
        return plan_study(named_or_chosen(study))
    except ParamsError as error:
        raise SystemExit(f"Nothing was done, because of params/:\n{error}") from None


def refuse_beside_jobs(study: str) -> None:
    """Ends the command where Snakemake or a job that outlived it is at work on the study."""
    if any(Path(".snakemake/locks").glob("*")):
        raise SystemExit("Nothing was done: Snakemake is running here (or was killed: snakemake --unlock).")
    for path in Path("results", study, "locks").glob("*.1.json"):
        if is_held(lock := path.with_name(path.name.removesuffix(".1.json"))):
            words = told_gone(lock) or f"{holder(lock)} is at work: let it end."
            raise SystemExit(f"Nothing was done: {words}")


def unplanned_results(plan: Plan) -> Iterator[Path]:
    """Results that are not of the plan, finished or not, and resume states of runs that are finished or not in it."""
    root = Path("results") / plan.name
    outputs = {job.execution.output for job in plan.jobs.values()}
    for section in PRODUCT:
        for path in sorted((root / section).glob("**/recipe.json")):
            if str(path.parent).removesuffix(".partial") not in outputs:
                yield path.parent
    unfinished = {job.digest for job in plan.unfinished()}
    yield from (path for path in sorted((root / "resume").glob("*")) if path.name not in unfinished)


def idle_caches(plan: Plan) -> Iterator[Path]:
    """Planned caches that are here and that nothing unfinished reads."""
    inputs = {path for job in plan.unfinished() for paths in job.execution.folders.values() for path in paths}
    for job in plan.of_section("teacher_logits"):
        if job.execution.output not in inputs and Path(job.execution.output).exists():
            yield Path(job.execution.output)


def show(study: str, folders: list[Path]) -> None:
    """A line a folder: megabytes, whether DVC has it, name."""
    try:
        listings = {folder: listing(md5) or set() for folder, md5 in recorded_folders(study).items()}
    except RecordsRefused as error:
        raise SystemExit(str(error)) from None
    total = 0
    for folder in folders:
        megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        section = "/".join(folder.parts[:3])
        in_dvc = str(folder.relative_to(section)) in listings.get(section, ())
        print(f"{megabytes:10.1f} MB  {'in dvc.lock' if in_dvc else 'only here  '}  {folder}")
        total += megabytes
    print(f"{total:10.1f} MB in {len(folders)} results of '{study}' that its present plan does not use")


def remove(folder: Path) -> None:
    """Removes a result and the folders that are empty then, but for the section's own."""
    shutil.rmtree(folder)
    for parent in folder.parents:
        if len(parent.parts) <= 3 or any(parent.iterdir()):
            break
        parent.rmdir()


def remove_locks(plan: Plan) -> None:
    """Removes the locks of results that are finished or not planned; only called beside no job."""
    unfinished = {job.digest for job in plan.unfinished()}
    for path in Path("results", plan.name, "locks").glob("*"):
        if path.name.partition(".")[0] not in unfinished:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
