"""What a piece of Python does, as a digest: its syntax tree without all that computes nothing.

Left out are comments, docstrings, layout, annotations, the words of errors, guards that only refuse, assertions, and
what is logged or printed; names that a function gives its own variables are numbered. So a reworded message, a new
refusal or a renamed local changes no digest, and a number, an operator or a name of a library's function does.
The tree is written out by ourselves because `ast.dump` differs between versions of Python.
"""

import ast
import hashlib
import json

# Fields that say nothing of behaviour, or that only some versions of Python have.
SILENT = {"ctx", "kind", "type_comment", "type_ignores", "type_params", "annotation", "returns", "simple", "msg"}
TELLERS = {"log", "logging", "logger", "warnings", "parser"}
"""Names whose methods, called as statements, tell a person something, or read the words of a command."""
REFUSALS = {"SystemExit", "ValueError", "TypeError"}
COMPLAINTS = {"Checked", "Diverged", "Mistake", "Problem"}
"""What functions return that tell what is wrong, in params or in a run."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOKING = {
    "abs", "all", "any", "bool", "callable", "endswith", "equal", "exists", "float", "fullmatch", "get", "hasattr",
    "int", "is_dir", "is_file", "isinstance", "issubclass", "items", "keys", "len", "map", "match", "max", "min",
    "prod", "range", "set", "sorted", "startswith", "str", "sum", "targets", "tuple", "type", "values", "zip",
}  # fmt: skip
"""Last words of calls that change nothing and draw nothing."""
CHANGING = {"append", "backward", "clear", "extend", "insert", "next", "pop", "popitem", "remove", "step", "update"}
"""Last words of calls that change something; torch's that end in `_` do, too."""


def behaviour_of_source(source: str) -> str:
    """Digest of the behaviour of one piece of Python; equal for sources that differ in what computes nothing only."""
    return digest_of("".join(written(each) for each in ast.parse(source).body if not is_silent(each)))


def behaviour_of_notebook(content: str) -> str:
    """Digest of a notebook's cells: the behaviour of its code, the text of its prose."""
    cells = json.loads(content)["cells"]
    parts = [
        behaviour_of_source("".join(cell["source"])) if cell["cell_type"] == "code" else "".join(cell["source"])
        for cell in cells
    ]
    return digest_of(json.dumps(parts))


def source_of_notebook(content: str) -> str:
    """All code of a notebook; commands to its kernel left out."""
    cells = [cell for cell in json.loads(content)["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in cells for line in "".join(cell["source"]).split("\n")]
    return "\n".join(line for line in lines if not line.startswith(("%", "!")))


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def written(node: ast.AST) -> str:
    """A statement or expression as text, the same under every version of Python; empty for what computes nothing."""
    pieces: list[str] = []
    _write(node, {}, pieces)
    return "".join(pieces)


def is_silent(statement: ast.AST) -> bool:
    """Whether a statement computes nothing: a text, something that is told, a guard that only refuses, a check."""
    if isinstance(statement, ast.Expr):
        value = statement.value
        return (isinstance(value, ast.Constant) and isinstance(value.value, str)) or _tells(value)
    if isinstance(statement, ast.Assert):
        return not _acts(statement.test)
    if isinstance(statement, ast.If):
        return not statement.orelse and all(map(_refuses, statement.body)) and not _acts(statement.test)
    if isinstance(statement, FUNCTIONS):
        return statement.returns is not None and bool(words_in(statement.returns) & COMPLAINTS)
    if isinstance(statement, ast.Assign):
        targets = [target.id for target in statement.targets if isinstance(target, ast.Name)]
        return targets == ["parser"]
    return False


def words_in(node: ast.AST) -> set[str]:
    """All plain names in a piece of code."""
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _refuses(statement: ast.AST) -> bool:
    """Whether it ends the run with a message; other errors may be caught by whoever called, and steer what is done."""
    raised = statement.exc if isinstance(statement, ast.Raise) else None
    return isinstance(raised, ast.Call) and isinstance(raised.func, ast.Name) and raised.func.id in REFUSALS


def _tells(value: ast.AST) -> bool:
    if not isinstance(value, ast.Call) or _binds(value):
        return False
    called, words = value.func, set()
    while isinstance(called, ast.Attribute):
        called = called.value
        words.add(called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
    if any(word in CHANGING or word.endswith("_") for word in _called(value)):
        return False
    prints = isinstance(value.func, ast.Name) and value.func.id == "print"
    return bool(words & TELLERS) or (prints and all(ast.unparse(each.value) == "sys.stderr" for each in value.keywords))


def _acts(test: ast.AST) -> bool:
    """Whether asking may change something, as a draw or a change in place does, so that what follows is another."""
    return _binds(test) or not _called(test) <= LOOKING


def _called(node: ast.AST) -> set[str]:
    """The last words of all that is called in an expression: `x.y.f()` is `f`."""
    calls = [inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    return {getattr(call, "attr", getattr(call, "id", "")) for call in calls}


def _binds(node: ast.AST) -> bool:
    """Whether an expression gives a name to something on the way."""
    return any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(node))


def _error(raised: ast.AST | None) -> str:
    while isinstance(raised, ast.Call | ast.Attribute):
        raised = raised.func if isinstance(raised, ast.Call) else raised.value
    return getattr(raised, "id", "again")


def locals_of(function: ast.AST) -> set[str]:
    """The names that a function, or one inside it, binds by itself; no parameters, as callers may name them."""
    bound, others = set(), set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name or isinstance(node, FUNCTIONS) and node is not function:
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            others.add(node.arg)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            others.update(node.names)
        elif isinstance(node, ast.ClassDef):
            return set()  # its attributes are names that others use
    return bound - others


def _write(node: object, names: dict[str, str], pieces: list[str]) -> None:
    """Appends the text of a node; `names` are the numbers of the variables of the function in which it stands."""
    if isinstance(node, ast.AST):
        _write_tree(node, names, pieces)
    elif isinstance(node, list):
        pieces.append("[")
        for item in node:
            if not (isinstance(item, ast.AST) and is_silent(item)):
                _write(item, names, pieces)
        pieces.append("]")
    else:
        pieces.append(f"{type(node).__name__}:{node!r}")


def _write_tree(node: ast.AST, names: dict[str, str], pieces: list[str]) -> None:
    if isinstance(node, FUNCTIONS) and not names:
        names = dict.fromkeys(locals_of(node), "")
    if isinstance(node, ast.Raise):
        pieces.append(f"(Raise {_error(node.exc)})")  # its type, by which it may be caught; not its words
        return
    if isinstance(node, ast.Try) and not all(isinstance(each.body[-1], ast.Raise) for each in node.handlers):
        for inner in ast.walk(node):  # a refusal that is caught here steers what is done
            if isinstance(inner, ast.If) and is_silent(inner):
                _write(inner.test, names, pieces)
    if isinstance(node, ast.AnnAssign) and node.value:
        node = ast.Assign(targets=[node.target], value=node.value)
    pieces.append(f"({type(node).__name__}")
    for field in sorted(node._fields):
        value = getattr(node, field, None)
        if field in SILENT or value is None or value == []:
            continue
        pieces.append(f" {field}=")
        if (field, type(node)) in NAMES and value in names:
            names[value] = names[value] or f"local {sum(map(bool, names.values()))}"
            pieces.append(names[value])
        else:
            _write(value, names, pieces)
    pieces.append(")")


NAMES = {("id", ast.Name), ("name", ast.ExceptHandler), *(("name", function) for function in FUNCTIONS)}
"""Where a tree holds the name of a variable."""
