"""What Snakemake is told beside a study's params."""

import pytest
from snakemake.cli import parse_config
from study.config import read_config
from study.problem import ParamsError


@pytest.mark.parametrize(
    ("said", "study", "gres_only"),
    [
        (["study=smoke"], "smoke", False),
        (["study=smoke", "gres_only=true"], "smoke", True),
        (["study=smoke", "gres_only=True"], "smoke", True),
        (["study=smoke", "gres_only=false"], "smoke", False),
        (["study=2024"], "2024", False),
    ],
)
def test_what_the_command_line_says_is_what_is_meant(said, study, gres_only):
    config = read_config(parse_config(said))
    assert (config.study, config.gres_only, config.as_if_new) == (study, gres_only, False)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"study": "smoke", "gres_onyl": True}, "gres_onyl: unknown key; did you mean 'gres_only'?"),
        ({"study": "smoke", "seeds": 3}, "seeds: unknown key; known here: as_if_new, gres_only, study."),
        ({"study": "smoke", "gres_only": "yess"}, "gres_only: must be true or false, found 'yess'; correct the value."),
        ({}, "study: missing; add it"),
    ],
)
def test_a_slip_is_refused(said, words):
    with pytest.raises(ParamsError) as refused:
        read_config(said)
    assert str(refused.value).startswith(f"params/study.yaml, --config or the profile's config: {words}")
