"""The RO-Crate of a published report, held against what RO-Crate 1.1 demands, and against the files themselves."""

import hashlib
import json
from datetime import date
from pathlib import Path
from urllib.parse import unquote

import pytest
from commands._crate import METADATA, write_crate

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = sorted(path.parent for path in ROOT.glob("reports/published/*/index.html"))


def entities(folder: Path) -> dict[str, dict]:
    """@id -> entity, after what the specification demands of any crate."""
    crate = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    assert crate.keys() == {"@context", "@graph"}
    assert "https://w3id.org/ro/crate/1.1/context" in crate["@context"]
    graph = {one["@id"]: one for one in crate["@graph"]}
    assert len(graph) == len(crate["@graph"]), "an @id names one entity"
    assert all(one.get("@type") for one in graph.values())
    for one in graph.values():  # flat: values are texts, references, or lists of them
        for key, value in one.items():
            for part in value if isinstance(value, list) else [value]:
                assert isinstance(part, str) or part.keys() == {"@id"}, (one["@id"], key)
                if isinstance(part, dict) and not part["@id"].startswith("https://w3id.org/ro/crate/"):
                    assert part["@id"] in graph, f"{one['@id']} refers to {part['@id']}, which is not described"
    descriptor = graph[METADATA]
    assert (descriptor["@type"], descriptor["about"]) == ("CreativeWork", {"@id": "./"})
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = graph["./"]
    assert root["@type"] == "Dataset" and root["name"] and root["description"]
    assert date.fromisoformat(root["datePublished"]) and graph[root["license"]["@id"]]["name"]
    files = {one["@id"] for one in graph.values() if one["@type"] == "File"}
    assert files == {part["@id"] for part in root["hasPart"]}, "every file is a part of the root"
    return graph


def assert_files(folder: Path, graph: dict[str, dict]) -> None:
    """Every file is described, with its size and sha256, but for the metadata."""
    files = {unquote(name): one for name, one in graph.items() if one["@type"] == "File"}
    assert set(files) == {path.name for path in folder.iterdir()} - {METADATA}
    for name, one in files.items():
        content = (folder / name).read_bytes()
        assert (one["contentSize"], one["sha256"]) == (str(len(content)), hashlib.sha256(content).hexdigest()), name
        assert one["encodingFormat"] != "application/octet-stream", name


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_a_published_report_is_a_crate_of_its_files(folder):
    graph = entities(folder)
    assert_files(folder, graph)
    assert "#torch" in graph and graph["./"]["author"] == [{"@id": "#the%20deit-reproduction%20authors"}]


def test_author_licence_and_works_are_those_of_the_citation_file(tmp_path):
    made = {"study": "demo", "digest": "0123456789", "runs": 3, "commits": ["abc", "def"], "machines": ["a CPU"],
            "python": ["3.11.7"], "versions": {"torch": ["2.14.1", "2.13.0"]}}  # fmt: skip
    (tmp_path / "provenance-0123456789.json").write_text(json.dumps(made), encoding="utf-8")
    (tmp_path / "a b.csv").write_text("row\n", encoding="utf-8")
    citation = tmp_path.parent / "CITATION.cff"
    citation.write_text(
        "title: A study\nlicense: MIT\nauthors: [{given-names: Ada, family-names: L, orcid: 'https://orcid.org/0'}]\n"
        "references: [{title: A paper, year: 2021, url: 'https://a.paper', authors: [{name: A group}]}]\n",
        encoding="utf-8",
    )
    assert write_crate(tmp_path, citation) == write_crate(tmp_path, citation), "the second describes no former metadata"
    graph = entities(tmp_path)
    assert_files(tmp_path, graph)
    root = graph["./"]
    assert root["license"] == {"@id": "https://spdx.org/licenses/MIT"} and root["name"].startswith("A study: ")
    assert graph[root["author"][0]["@id"]] == {"@id": "https://orcid.org/0", "@type": "Person", "name": "Ada L"}
    assert graph["https://a.paper"]["creditText"] == "A group" and "a%20b.csv" in graph
    assert graph["#torch"]["softwareVersion"] == "2.14.1, 2.13.0"
    assert {"@id": "#torch"} in graph["#run"]["instrument"] and {"@id": "a%20b.csv"} in graph["#run"]["result"]
