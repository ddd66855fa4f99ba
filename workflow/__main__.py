"""What a user asks of a study besides Snakemake: python workflow COMMAND [--help]"""

import ast
import difflib
import importlib
import shlex
import sys
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType

WORKFLOW = Path(__file__).resolve().parent
COMMANDS = {
    path.stem.replace("_", "-"): path
    for path in sorted(WORKFLOW.glob("commands/*.py"))
    if not path.stem.startswith("_")
}


def main() -> None:
    if isinstance(sys.stdout, TextIOWrapper):  # what a terminal has no letter for is written out
        sys.stdout.reconfigure(errors="backslashreplace")
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(listing())
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"They are: {', '.join(COMMANDS)}."
        raise SystemExit(f"{name}: no such command. {hint} `python workflow --help` lists them.")
    if not {"-h", "--help"} & set(arguments):
        refuse_elsewhere()
    sys.argv = [f"python workflow {name}", *arguments]
    sys.path.insert(0, str(WORKFLOW.parent / "src"))
    command(COMMANDS[name]).main()


def refuse_elsewhere() -> None:
    """SystemExit outside of a clone: params/, results/ and reports/ are looked for where a command is started."""
    if not (Path("params").is_dir() and Path("workflow/__main__.py").is_file()):
        here, clone = Path.cwd(), WORKFLOW.parent
        raise SystemExit(
            f"{here}: is not the project's folder. cd {shlex.quote(str(clone))}, and give the command again."
        )


def command(path: Path) -> ModuleType:
    """The module of a command; SystemExit where this is not the project's python."""
    try:
        return importlib.import_module(f"commands.{path.stem}")
    except ModuleNotFoundError as error:
        here = f"{error.name} is not installed for {sys.executable}"
        raise SystemExit(f"{here}: activate the project's environment, as for snakemake.") from None


def listing() -> str:
    """Every command with the first line of what its file says of itself."""
    lines = [f"  {name:<15} {summary(path)}" for name, path in COMMANDS.items()]
    return "\n".join(["python workflow COMMAND [--help]", "", *lines])


def summary(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


if __name__ == "__main__":
    main()
