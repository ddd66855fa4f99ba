"""What editors and people read of a params file's keys: params/schema.json and docs/params.md.

python workflow/study/schema.py     # writes both, after the types of study.py
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "workflow")]

from study.params_page import page  # noqa: E402
from study.study import Study  # noqa: E402


def schema() -> str:
    """JSON schema of a params file; a file that extends another leaves most keys out, so none is required."""
    content = Study.model_json_schema()
    for part in (content, *content["$defs"].values()):
        part.pop("required", None)
    content["properties"]["extends"] = {"type": "string", "description": "The study that this file builds on."}
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    (ROOT / "params" / "schema.json").write_text(schema(), encoding="utf-8")
    (ROOT / "docs" / "params.md").write_text(page(), encoding="utf-8")
