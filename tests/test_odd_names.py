"""Names that CSV readers and YAML take for something else keep their spelling from params/ to the page."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import synthetic_study
import test_report
from plan.studies import plan_study
from smoke_study import ROOT
from study.params import ParamsError, read_yaml

from deit.tables import computed as tables

ODD = {"deit-ti": "NA", "deit-s": "None", "regnety-4gf": "1e5", "regnety-8gf": "007", "corrupted": "null"}
"""A name of the synthetic study -> what stands there instead."""


def renamed_study() -> ModuleType:
    """The synthetic study with other names for two students, two teachers and an evaluation set."""
    source = Path(synthetic_study.__file__).read_text(encoding="utf-8")
    for usual, odd in ODD.items():
        source = source.replace(f'"{usual}"', f'"{odd}"').replace(f'"{usual}-finetuned"', f'"{odd}-finetuned"')
        source = source.replace(f"{usual}/", f"{odd}/").replace(f"{usual}.parquet", f"{odd}.parquet")
    module = ModuleType("renamed_study")
    exec(compile(source, "renamed_study", "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_report, "study", renamed_study())
        yield test_report.Published(tmp_path_factory.mktemp("odd"))


def test_all_cells_of_a_network_with_an_odd_name_are_there(published):
    found = tables.metrics(tables.load(folder) for folder in published.tables)
    assert found["table_1"]["NA"].keys() >= {"images_per_second", "parameters"}
    assert found["table_2"]["1e5"].keys() == found["table_2"]["007"].keys() == {"teacher", "pretrained", "finetuned"}
    assert found["table_3"]["labels"] == {"NA": 70.2, "None": 74.2, "deit-b": 77.2, "deit-b-finetuned": 79.2}
    assert found["table_5"]["None"] == {"images_per_second": 4000, "test": 74.2, "null": 64.2}
    assert json.loads((published.output / "metrics.json").read_text(encoding="utf-8")) == found


def test_the_page_calls_it_so(published):
    page = (published.output / "index.html").read_text(encoding="utf-8")
    for shown in (
        "<th scope=row>NA</th>",
        "<th scope=row>None</th>",
        "<th scope=row>007</th>",
        "<th scope=row>1e5</th>",
        'id="NA/labels/16/seed0"',
    ):
        assert shown in page, shown


def test_a_study_is_planned_with_them(tmp_path):
    """From params/ to the recipes of tables and to plan.csv."""
    for study in ("fashion", "smoke"):
        text = (ROOT / f"params/{study}.yaml").read_text(encoding="utf-8")
        for usual, odd in ODD.items():
            text = re.sub(rf"(?<![\w-]){usual}(?=[:,/\]])", f'"{odd}"', text)
        (tmp_path / f"{study}.yaml").write_text(text, encoding="utf-8")
    plan = plan_study("smoke", tmp_path)
    recipes = {job.name: job.resolved() for job in plan.of_section("tables")}
    assert recipes["tables/table_1"].rows == ("NA", "None", "deit-b")
    assert "1e5" in recipes["tables/table_2"].rows and "null" in recipes["tables/table_5"].columns
    assert {run.model for run in plan.runs} == {"NA", "None", "deit-b", "1e5", "regnety-16gf"}


@pytest.mark.parametrize("name", ["NA", "None", "nan", "inf", "no", "NULL_", "0x1F-", "1e5", "007", "true", "null"])
def test_a_key_is_its_text_or_refused_with_a_remedy(tmp_path, name):
    """YAML 1.2: `NA` and `no` are text; `1e5`, `true` and `null` are not, unless they stand in quotation marks."""
    (tmp_path / "quoted.yaml").write_text(f'models: {{"{name}": {{}}}}\n', encoding="utf-8")
    assert read_yaml(tmp_path / "quoted.yaml") == {"models": {name: {}}}
    (tmp_path / "plain.yaml").write_text(f"models: {{{name}: {{}}}}\n", encoding="utf-8")
    if name in ("1e5", "007", "true", "null"):
        with pytest.raises(ParamsError, match=r"plain.yaml: models\..*: a key must be text, .*in quotation marks"):
            read_yaml(tmp_path / "plain.yaml")
    else:
        assert read_yaml(tmp_path / "plain.yaml") == {"models": {name: {}}}
