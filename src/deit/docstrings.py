"""What is said below the attributes of a class, read off its file: who makes a page or a schema of them asks."""

import ast
import inspect
from functools import cache
from importlib import import_module
from itertools import pairwise


def docstrings(kind: type) -> dict[str, str]:
    """Attribute -> the text below it, of a class and those that it is made of."""
    found = {}
    for part in reversed(kind.__mro__):
        for attribute, said in pairwise(classes_in(part.__module__).get(part.__name__, [])):
            match attribute, said:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    found[name] = inspect.cleandoc(text)
    return found


@cache
def classes_in(module: str) -> dict[str, list[ast.stmt]]:
    """Class -> its body, of those that a module's file defines: none that a call has made, and none without a file."""
    try:
        statements = ast.parse(inspect.getsource(import_module(module))).body
    except (OSError, TypeError):
        return {}
    return {each.name: each.body for each in statements if isinstance(each, ast.ClassDef)}
