"""What is said below the attributes of a class, read off its file: who makes a page or a schema of them asks."""

import ast
import inspect
from importlib import import_module
from itertools import pairwise


def docstrings(kind: type) -> dict[str, str]:
    """Attribute -> the text below it, of a class and those that it is made of."""
    found = {}
    for part in reversed(kind.__mro__):
        for attribute, said in pairwise(body_of(part)):
            match attribute, said:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    found[name] = inspect.cleandoc(text)
    return found


def body_of(kind: type) -> list[ast.stmt]:
    """Of a class as its file defines it; empty for one that a call has made, or that is no Python."""
    try:
        statements = ast.parse(inspect.getsource(import_module(kind.__module__))).body
    except (OSError, TypeError):
        return []
    classes = {each.name: each.body for each in statements if isinstance(each, ast.ClassDef)}
    return classes.get(kind.__name__, [])
