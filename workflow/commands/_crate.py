"""ro-crate-metadata.json of a published report: what it holds, by whom, under which licence, made with what.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) is JSON-LD in which archives and registries of research data find that. The
author, the licence and what is to be cited are those of CITATION.cff.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

METADATA = "ro-crate-metadata.json"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
CONTEXT = [f"{SPECIFICATION}/context", {"sha256": "https://schema.org/sha256"}]
FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".ipynb": "application/x-ipynb+json",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tex": "application/x-tex",
}
TOLD = {
    "index.html": "The report: claims with their verdicts, tables beside the paper's, pictures, provenance",
    "claims.json": "Each claim as data: its rule, comparisons with intervals, test, verdict, and runs by digest",
    "metrics.json": "The mean of every cell",
    "cells.csv": "The runs behind every cell, and the file of their decisions",
}
"""File -> what it holds; of the others the name tells."""


def write_crate(report: Path, citation: Path = Path("CITATION.cff")) -> Path:
    """Writes the metadata of a complete report into its folder; returns the file."""
    from study.params_file import read_yaml  # late: no other command than the one that publishes waits for it

    (provenance,) = sorted(report.glob("provenance-*.json"))
    made = json.loads(provenance.read_text(encoding="utf-8"))
    paths = sorted(path for path in report.iterdir() if path.is_file() and path.name != METADATA)
    cited = read_yaml(citation)
    files, software = list(map(file_entity, paths)), software_entities(made, cited)
    authors, works = list(map(author_entity, cited["authors"])), list(map(work_entity, cited["references"]))
    licence = {
        "@id": f"https://spdx.org/licenses/{cited['license']}",
        "@type": "CreativeWork",
        "name": cited["license"],
    }
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": SPECIFICATION},
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{cited['title']}: the report of the study {made['study']}",
        "description": f"Tables, figures and claims of {made['runs']} networks, plan {made['digest']}.",
        "datePublished": datetime.now(UTC).date().isoformat(),
        "license": reference(licence),
        "author": list(map(reference, authors)),
        "citation": list(map(reference, works)),
        "hasPart": list(map(reference, files)),
    }
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"The run of the study {made['study']}",
        "description": f"On {'; '.join(made['machines'])}",
        "instrument": list(map(reference, software)),
        "result": list(map(reference, files)),
    }
    graph = [descriptor, root, *files, action, *software, *authors, licence, *works]
    text = json.dumps({"@context": CONTEXT, "@graph": graph}, indent=1, ensure_ascii=False)
    (report / METADATA).write_text(text + "\n", encoding="utf-8")
    return report / METADATA


def reference(entity: dict) -> dict:
    return {"@id": entity["@id"]}


def file_entity(path: Path) -> dict:
    content = path.read_bytes()
    return {
        "@id": quote(path.name),
        "@type": "File",
        "name": TOLD.get(path.name, path.name),
        "encodingFormat": FORMATS.get(path.suffix, "application/octet-stream"),
        "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def software_entities(made: dict, cited: dict) -> list[dict]:
    """The project at its commits, Python, and the libraries that decide numbers, each with its versions."""
    project = {"name": cited["title"], "version": made["commits"], "id": "#software"}
    others = [{"name": name, "version": versions, "id": f"#{name}"} for name, versions in made["versions"].items()]
    return [
        {
            "@id": one["id"],
            "@type": "SoftwareApplication",
            "name": one["name"],
            "softwareVersion": ", ".join(one["version"]),
        }
        for one in [project, {"name": "Python", "version": made["python"], "id": "#python"}, *others]
    ]


def author_entity(author: dict) -> dict:
    """A person of CITATION.cff, or an entity, which has one name only."""
    if "name" in author:
        return {"@id": f"#{quote(author['name'])}", "@type": "Organization", "name": author["name"]}
    name = f"{author['given-names']} {author['family-names']}"
    return {"@id": author.get("orcid", f"#{quote(name)}"), "@type": "Person", "name": name}


def work_entity(cited: dict) -> dict:
    """A work that CITATION.cff names; its authors as one text, as they are no authors of the report."""
    names = ", ".join(author_entity(author)["name"] for author in cited["authors"])
    work = {"@id": cited["url"], "@type": "ScholarlyArticle", "name": cited["title"], "creditText": names}
    return work | {"datePublished": str(cited["year"])}
