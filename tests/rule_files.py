"""What stands in workflow/rules: each rule that makes something, the section it makes, the roles in which it reads."""

import re
from pathlib import Path
from typing import NamedTuple

FILES = sorted((Path(__file__).resolve().parent.parent / "workflow/rules").glob("*.smk"))
RULE = re.compile(r"^(?:rule|use rule \w+ as) (\w+)(?: with)?:\n((?:    .*\n)+)", re.MULTILINE)
SECTION = re.compile(r'"(?:results/\{study\}/(\w+)/\{name\}|(report)s/)')
ROLE = re.compile(r'^        (\w+)=plan\.needs\("(\w+)"\),$', re.MULTILINE)


class RuleText(NamedTuple):
    name: str
    section: str
    """Of results/<study>/; "report" for what goes to reports/."""
    roles: dict[str, str]
    """Name of an input -> the role in which it asks the plan for files."""


def rules_of(*files: Path) -> list[RuleText]:
    bodies = RULE.findall("".join(path.read_text(encoding="utf-8") for path in files))
    return [
        RuleText(name, "".join(SECTION.search(body).groups("")), dict(ROLE.findall(body)))
        for name, body in bodies
        if "    output:" in body
    ]
