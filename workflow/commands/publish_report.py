"""Keeps the report of a finished study in git: copies reports/<study>/ to reports/published/<study>/.

    python workflow publish-report [STUDY] && git add reports/published

Beside the page it writes ro-crate-metadata.json, by which archives of research data find author, licence and files.
For those who look after the project. Every run writes reports/<study>/, which git ignores, so that computing a study
anew changes nothing that is committed; `python workflow replicate` compares the two.
"""

import argparse
import shutil
from pathlib import Path

from commands._crate import write_crate
from commands._study import add_study, named_or_chosen

PUBLISHED = Path("reports/published")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_study(parser)
    study = named_or_chosen(parser.parse_args().study)
    print(f"{publish_report(Path('reports', study), PUBLISHED / study)}: now commit it.")


def publish_report(report: Path, published: Path) -> Path:
    """Copies a complete report in place of the one that was published before; returns where to.

    Raises SystemExit where there is none, or where it was begun and not finished.
    """
    if len(list(report.glob("provenance-*.json"))) != 1:
        raise SystemExit(f"{report}: no complete report. Run snakemake all_tables for this study first.")
    partial = published.with_name(published.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(report, partial)
    write_crate(partial)
    shutil.rmtree(published, ignore_errors=True)
    return partial.rename(published)
