"""The ablation of the training recipe and the epochs figure: claims, tables, figure and notebook, nothing trained."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import synthetic_study as study
from synthetic_tables import computed, reversed_methods

from deit.store.frames import read_frame
from deit.tables import cells, figures, layout
from deit.tables import computed as tables
from deit.tables.computed import PaperTable
from deit.tables.definition import definition, titles_of
from deit.tables.each.epochs import draw
from deit.tables.predictions import Inputs
from deit.tables.recipes import Table
from deit.tables.titles import TITLES, title
from deit.tables.verdicts import Finding, findings, holm, judged

ROOT = Path(__file__).parents[1]
VERDICTS = {
    "longer_training": "holds",
    "adamw_over_sgd": "holds",
    "augmentation_helps": "holds",
    "autoaugment_no_better": "holds",
    "stochastic_depth_helps": "contradicted",  # 2 points lost
    "repeats_help": "undecided",  # .1 gained
    "dropout_equals_none": "holds",
    "ema_equals_none": "contradicted",  # 3 points lost
}


@pytest.fixture(scope="module")
def sheets(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("study")
    return [study.sheet(root, "all", study.all_runs()), study.sheet(root, "recipe", study.recipe_runs())]


@pytest.fixture(scope="module")
def inputs(sheets) -> Inputs:
    return Inputs(sheets)


@pytest.fixture(scope="module")
def shown(inputs) -> dict[str, PaperTable]:
    return {name: computed(recipe, inputs) for name, recipe in study.recipe_tables().items()}


def by_key(*shown: PaperTable) -> dict[str, Finding]:
    return {finding.key: finding for finding in findings(shown)}


def gains(finding: Finding) -> dict[str, tuple[float, float]]:
    """What -> ours and the paper's."""
    return {one.what: (round(one.ours, 3), round(one.paper, 3)) for one in finding.comparisons}


def moved(recipe: Table, **rows: str) -> Table:
    """Rows under other names; their runs stay."""
    cells_ = tuple(cell.model_copy(update={"row": rows.get(cell.row, cell.row)}) for cell in recipe.cells)
    return recipe.model_copy(update={"cells": cells_, "rows": tuple(rows.get(row, row) for row in recipe.rows)})


def without(recipe: Table, *rows: str) -> Table:
    kept = tuple(cell for cell in recipe.cells if cell.row not in rows)
    return recipe.model_copy(update={"cells": kept, "rows": tuple(row for row in recipe.rows if row not in rows)})


# Claims ---------------------------------------------------------------------------------------------------------------


def test_each_claim_has_a_verdict_and_the_papers_gains(shown):
    found = by_key(*shown.values())
    assert {key: finding.verdict for key, finding in found.items()} == VERDICTS
    assert gains(found["adamw_over_sgd"]) == {"AdamW": (8, 7.3)}
    assert gains(found["augmentation_helps"]) == {
        "RandAugment": (3, 2.2),
        "mixup": (4, 3.1),
        "cutmix": (3, 1.8),
        "mixup and cutmix": (7, 6.0),
        "random erasing": (2, 77.5),  # theirs diverged
    }
    assert gains(found["autoaugment_no_better"]) == {"RandAugment over AutoAugment": (0.2, 0.6)}
    assert gains(found["dropout_equals_none"]) == {"dropout": (0, -0.5)}
    assert gains(found["ema_equals_none"]) == {"exponential moving average": (-3, 0.1)}
    assert gains(found["longer_training"]) == {
        "hard distillation, 2 → 8 epochs": (4, 1.1),
        "⚗ class + distil., 2 → 8 epochs": (4, 0.8),
    }
    equal = [one for key in ("dropout_equals_none", "ema_equals_none") for one in found[key].comparisons]
    assert {(one.side, one.threshold) for one in equal} == {("within", 0.5)}
    assert all(one.n == 2 and one.images == study.IMAGES for finding in found.values() for one in finding.comparisons)


def test_an_ingredient_is_added_where_the_recipe_has_none_and_left_out_where_it_has_it(shown, inputs):
    """Either way the gain is that of the ingredient, and the paper's beside it, which left it out."""
    added = by_key(shown["ablation"])
    assert gains(added["stochastic_depth_helps"]) == {"stochastic depth, added": (-2, 78.4)}
    assert gains(added["repeats_help"]) == {"repeated augmentation, added": (0.1, 5.3)}
    recipe = moved(study.recipe_tables()["ablation"], stochastic_depth="no_stochastic_depth", repeats="no_repeats")
    left_out = by_key(computed(recipe, inputs))
    assert gains(left_out["stochastic_depth_helps"]) == {"stochastic depth": (2, 78.4)}
    assert gains(left_out["repeats_help"]) == {"repeated augmentation": (-0.1, 5.3)}
    assert left_out["stochastic_depth_helps"].verdict == "holds"
    assert "diverged" in left_out["stochastic_depth_helps"].remark


def test_each_ingredient_is_held_in_both_phases(inputs):
    recipe = study.recipe_tables()["ablation"]
    second = tuple(cell.model_copy(update={"column": "finetuned"}) for cell in recipe.cells)
    both = recipe.model_copy(update={"cells": recipe.cells + second, "columns": ("pretrained", "finetuned")})
    found = by_key(computed(both, inputs))
    mean = {"mean over resolutions": (8, 6.55)}
    assert gains(found["adamw_over_sgd"]) == mean | {"AdamW": (8, 7.3), "AdamW ↑": (8, 5.8)}
    erasing = {one.what: one.paper for one in found["augmentation_helps"].comparisons if "erasing" in one.what}
    assert erasing["random erasing"] == pytest.approx(77.5) and math.isnan(erasing["random erasing ↑"])


def test_claims_turn_with_the_numbers(inputs):
    swapped = reversed_methods(study.recipe_tables()["ablation"], baseline="no_mixup", no_mixup="baseline")
    augmented = by_key(computed(swapped, inputs))["augmentation_helps"]
    assert augmented.verdict == "contradicted", "one augmentation that harms is enough"
    recipe = study.recipe_tables()["epochs"]
    turned = {"2": "8", "8": "2"}
    shorter = tuple(
        cell.model_copy(update={"runs": study.of_recipe(cell.row, turned.get(cell.column, cell.column))})
        for cell in recipe.cells
    )
    table = computed(recipe.model_copy(update={"cells": shorter}), inputs)
    assert by_key(table)["longer_training"].verdict == "contradicted"


def test_only_what_the_table_has_is_spoken_of(inputs, shown):
    table_3 = computed(study.tables()["table_3"], inputs)
    assert not set(VERDICTS) & set(by_key(table_3)), "no ablation, no epochs figure"
    recipe = without(study.recipe_tables()["ablation"], "sgd_pretraining", "repeats", "dropout", "no_cutmix")
    found = by_key(computed(recipe, inputs))
    assert set(found) == set(by_key(shown["ablation"])) - {"adamw_over_sgd", "repeats_help", "dropout_equals_none"}
    assert "cutmix" not in gains(found["augmentation_helps"]) and found["augmentation_helps"].verdict == "holds"
    labels = without(study.recipe_tables()["epochs"], "hard", "token_fusion")
    assert by_key(computed(labels, inputs)) == {}


def test_one_seed_is_undecided(inputs):
    for recipe in study.recipe_tables().values():
        single = tuple(cell.model_copy(update={"runs": cell.runs[:1]}) for cell in recipe.cells)
        found = findings([computed(recipe.model_copy(update={"cells": single}), inputs)])
        assert found and {finding.verdict for finding in found} == {"undecided"}


def test_the_ablation_is_a_family_of_its_own(shown, inputs):
    """It changes no verdict on distillation, and is corrected for its own number."""
    main = [computed(study.tables()[name], inputs) for name in ("table_2", "table_3")]
    alone = by_key(*main, shown["epochs"])
    together = by_key(*main, *shown.values())
    for key, one in alone.items():
        p_values = together[key].p_holds, together[key].p_contradicted
        assert p_values == pytest.approx((one.p_holds, one.p_contradicted), nan_ok=True), key
    ablation = by_key(shown["ablation"])
    assert {one.family for one in ablation.values()} == {"training recipe"}
    assert {one.family for one in alone.values()} == {"distillation"}
    claims = definition("ablation").claims
    raw = {
        claim.key: judged(shown["ablation"].recipe, claim, rows)
        for claim in claims
        if len(rows := of_claim(shown["ablation"], claim.key))
    }
    assert [one.p_holds for one in ablation.values()] == holm([raw[key].p_holds for key in ablation])
    assert [one.family for one in together.values()] == sorted(one.family for one in together.values())


def test_comparisons_survive_the_disk(shown, tmp_path):
    for name, table in shown.items():
        folder = study.begun(tmp_path, "table", f"tables/{name}", table.recipe)
        tables.save(table, folder)
        loaded = tables.load(study.sealed(folder))
        assert loaded.frame["column"].tolist() == table.frame["column"].tolist(), "numbers of epochs stay text"
        assert [one.verdict for one in findings([loaded])] == [one.verdict for one in findings([table])]
        assert [one.evidence for one in findings([loaded])] == [one.evidence for one in findings([table])]


def of_claim(table: PaperTable, key: str) -> pd.DataFrame:
    return table.comparisons[table.comparisons["finding"] == key]


# Tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ablation", "epochs"])
def test_html_and_latex_have_titles_order_and_notes(shown, name):
    recipe, frame = shown[name].recipe, shown[name].frame
    notes = layout.notes(recipe, frame)
    html, tex = layout.table_html(recipe, frame, notes), layout.table_latex(recipe, frame, notes)
    heads = ["accuracy"] if name == "ablation" else ["2 epochs", "4 epochs", "8 epochs"]
    for text, written in ((html.partition("<thead>")[2], str), (tex.partition(r"\toprule")[2], layout.latex)):
        order = [text.index(written(title(row, titles_of(recipe)))) for row in recipe.rows]
        assert order == sorted(order) and all(head in text for head in heads)
    assert "_" not in "".join(title(row, titles_of(recipe)) for row in recipe.rows)
    assert tex.count("{") == tex.count("}") and tex.isascii()
    body = [line for line in tex.split(r"\toprule")[1].split("\n") if line.endswith(r"\\")]
    assert {line.count(" & ") for line in body} == {frame["column"].nunique()}


def test_nothing_is_bold_in_an_ablation(shown):
    """The best of a dozen rows is best by chance, too; a note says so, and how the findings are corrected."""
    recipe, frame = shown["ablation"].recipe, shown["ablation"].frame
    notes = layout.notes(recipe, frame)
    assert not any(cell.best for cell in layout.grid(recipe, frame)[2].values())
    assert "Bold" not in notes[0] and "no row is in bold" in " ".join(notes[1:])
    assert "a family of their own" in " ".join(notes[1:])
    epochs = layout.grid(shown["epochs"].recipe, shown["epochs"].frame)[2]
    assert [place for place, cell in epochs.items() if cell.best] == [("token_fusion", length) for length in "248"]


def test_rules_part_the_kinds_of_ingredients(shown):
    recipe = shown["ablation"].recipe
    ruled = [row for row, rule in layout.parted(recipe, list(recipe.rows)) if rule]
    assert ruled == ["sgd_pretraining", "no_randaugment", "stochastic_depth"]


def test_every_row_of_the_paper_has_a_title():
    rows = [*cells.paper("ablation").index, *cells.paper("epochs").index, *study.ABLATED]
    assert [row for row in rows if row not in {**TITLES, **definition("ablation").titles}] == []
    assert (title("8"), title("1"), title("1000")) == ("8 epochs", "1 epoch", "1,000 epochs")
    recipe = study.recipe_tables()["ablation"]
    assert title("finetuned", titles_of(recipe)) == "accuracy ↑"


# Figure and notebook --------------------------------------------------------------------------------------------------


def bars(figure, panel: int = 0) -> list[tuple[float, float]]:
    """Ends of all error bars of a panel."""
    paths = [path for group in figure.axes[panel].collections for path in group.get_paths()]
    return [tuple(path.vertices[:, 1]) for path in paths]


def test_bars_of_the_epochs_figure_are_95_percent_intervals(shown):
    frame = shown["epochs"].frame
    found = bars(draw(shown["epochs"].recipe, frame))
    assert found == [pytest.approx(ends) for ends in zip(frame["low"], frame["high"], strict=True)]


def test_ticks_of_the_epochs_figure_are_what_was_trained(shown):
    (axes,) = draw(shown["epochs"].recipe, shown["epochs"].frame).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "4", "8"]


def test_a_bar_of_two_seeds_does_not_flatten_the_epochs_figure(shown):
    frame = shown["epochs"].frame.copy()
    frame.loc[0, ["low", "high"]] = [-100.0, 240.0]
    frame.loc[1:, "low"], frame.loc[1:, "high"] = frame["ours"][1:] - 0.5, frame["ours"][1:] + 0.5
    low, high = draw(shown["epochs"].recipe, frame).axes[0].get_ylim()
    assert 69 < low < 70 and 78.5 < high < 80


def test_the_papers_numbers_stand_beside_where_it_trained_as_long(shown, tmp_path):
    recipe, frame = shown["epochs"].recipe, shown["epochs"].frame
    assert len(draw(recipe, frame).axes) == 1
    longer = frame.assign(column=frame["column"].map({"2": "300", "4": "500", "8": "1000"}))
    theirs = cells.paper("epochs")
    longer["paper"] = [
        theirs.at[row, column] if row in theirs.index else math.nan
        for row, column in zip(longer["row"], longer["column"], strict=True)
    ]
    figure = draw(recipe, longer)
    assert len(figure.axes) == 2
    assert figures.save(figure, tmp_path, "epochs").stat().st_size > 10_000


def test_the_notebook_of_the_epochs_figure_runs(sheets, tmp_path):
    recipe = study.recipe_tables()["epochs"]
    path, job = study.write_recipe(tmp_path, "table", "tables/epochs", recipe, sheets)
    output = tmp_path / f"epochs-{job.digest}"
    command = [sys.executable, ROOT / "workflow/jobs/render.py", "--recipe", path, "--predictions", *sheets]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}/workflow"}
    done = subprocess.run(
        [*map(str, command), "--output", str(output)], env=environment, cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert {file.suffix for file in output.glob("epochs.*")} == {".ipynb", ".html", ".csv", ".tex", ".png", ".svg"}
    assert "8 epochs" in (output / "epochs.html").read_text(encoding="utf-8")
    assert by_key(tables.load(output))["longer_training"].verdict == "holds"
    assert len(read_frame(output / "epochs.csv")) == 9
