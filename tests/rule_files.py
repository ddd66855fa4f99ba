"""What stands in workflow/rules: each rule that makes something, the section it makes, the roles in which it reads."""

import re
from pathlib import Path
from typing import NamedTuple

FILES = sorted((Path(__file__).resolve().parent.parent / "workflow/rules").glob("*.smk"))
RULE = re.compile(r"^(?:rule|use rule (\w+) as) (\w+)(?: with)?:\n((?:    .*\n|\n)+)", re.MULTILINE)
SECTION = re.compile(r'"(?:results/\{study\}/(\w+)/\{name\}|(report)s/)')
ROLE = re.compile(r'^        (\w+)=plan\.needs\("(\w+)"\),$', re.MULTILINE)
NAMED = re.compile(r"\{params\.folders\[(\w+)\]\}")
"""In a shell: the flag with the folders of a role."""


class RuleText(NamedTuple):
    name: str
    like: str
    """The rule whose shell it has, with `use rule`; empty for one of its own."""
    section: str
    """Of results/<study>/; "report" for what goes to reports/."""
    roles: dict[str, str]
    """Name of an input -> the role in which it asks the plan for files."""
    named: set[str]
    """Roles that its own shell names."""
    docstring: str


def rules_of(*files: Path) -> list[RuleText]:
    rules = RULE.findall("".join(path.read_text(encoding="utf-8") for path in files))
    return [
        RuleText(
            name,
            like,
            "".join(SECTION.search(body).groups("")),
            dict(ROLE.findall(body)),
            set(NAMED.findall(body)),
            body.split('"""')[1],
        )
        for like, name, body in rules
        if "    output:" in body
    ]
