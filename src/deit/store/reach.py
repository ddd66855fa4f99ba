"""The code that makes a result: all definitions that a command, and what its recipe chooses, may come to execute.

A module is parsed into definitions (functions, classes, constants), and names are followed from one to the next,
through imports too. What is never reached does not count: a new function, a reader that a study does not use. What
cannot be followed counts whole: a class; a module that is handed on; statements at the top of a module that define
nothing, as importing it runs them, and those of the packages on the way to it and of all that it imports. Recipes count
for those of their methods that somebody calls, as their values stand in the job. Nothing of the store counts: it keeps
results, and finds damage, but computes none.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from deit.store.remembered import Remembered, digest_of_texts, texts_of
from deit.store.syntax import (
    FUNCTIONS,
    behaviour_of_notebook,
    digest_of,
    is_silent,
    source_of_notebook,
    words_in,
    written,
)

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = "deit"
RECIPE = f"{PACKAGE}.bounds.Recipe"
VALIDATORS = {"field_validator", "model_validator", "classmethod"}
LOOSE = ""
"""Name of the definition that holds the statements of a module that define nothing."""
WHOLE = "*"


class Definition(NamedTuple):
    """A function, class or constant of a module of ours, a method of a recipe (`Class.method`), or LOOSE."""

    module: str
    name: str


class Made(NamedTuple):
    """The code that makes a result."""

    roots: tuple[str, ...]
    code: str
    """Digest of all that it computes, in whatever files it stands."""
    behaviour: dict[str, str]
    """File, from the project's root on -> digest of what of it is reached."""


@dataclass
class Module:
    """What is read of a module's source."""

    name: str
    package: str
    """Where its relative imports begin."""
    nodes: dict[str, list[ast.stmt]] = field(default_factory=dict)
    """Name of a definition -> the statements that make it; several where it is made in steps."""
    imports: dict[str, str] = field(default_factory=dict)
    """Name of something imported -> its dotted name, of ours or another library's."""
    asked: set[str] = field(default_factory=set)
    """Dotted names of all that importing it imports, also where no name is used."""


class Code:
    """The project's code, read once."""

    def __init__(self, root: Path = ROOT, texts: Mapping[str, str] | None = None, remembered: Remembered | None = None):
        """`texts`: file, from the root on -> what to read in its place; `remembered`: of all texts of the package."""
        self.root, self.texts, self.remembered = root, dict(texts or {}), remembered
        self.modules: dict[str, Module] = {}
        self.reached: dict[tuple[str, ...], list[Definition]] = {}
        self.meant: dict[Definition, dict[str, set[Definition] | str]] = {}
        self.trees: dict[Definition, str] = {}
        self.digests: dict[Definition, str] = {}
        self.attributes: dict[Definition, set[str]] = {}
        """Of all that is asked of something, by definitions whose names were followed."""
        self.asked: dict[Definition, set[str]] = {}
        """Dotted names that they import themselves."""
        self.files: dict[str, str] = {}
        self.there: dict[str, bool] = {}
        self.made: dict[tuple[str, ...], Made] = {}

    def made_by(self, roots: Iterable[str]) -> Made:
        """What is reached from `roots`, which are modules and paths of other files.

        Of a command, `deit.commands.x`, its `main` is reached, and of other modules, files and notebooks of Python all
        that they define. Notebooks count with their prose, too, and other files with their text.
        """
        roots = tuple(sorted(set(roots)))
        return kept(self.made, roots, partial(self.recall, self.remembered) if self.remembered else self.follow)

    def recall(self, remembered: Remembered, roots: tuple[str, ...]) -> Made:
        """What an earlier process has found; files beside the package count as they are now."""
        files = {root: self.text_of(root) for root in roots if "/" in root}
        key = " ".join((*roots, digest_of_texts(files)))
        if key not in remembered.entries:
            made = self.follow(roots)
            remembered.add(key, {"code": made.code, "behaviour": made.behaviour})
        return Made(roots, **remembered.entries[key])

    def follow(self, roots: tuple[str, ...]) -> Made:
        texts = [root for root in roots if "/" in root and not root.endswith(".py")]
        files: dict[str, list[str]] = {file: [self.digest_of_text(file)] for file in texts}
        alone = [f"{file} {digest}" for file, (digest,) in files.items()]
        definitions = self.reach(roots)
        for each in definitions:
            files.setdefault(self.file_of(each.module), []).append(self.said_in_its_file(each))
        everything = [*alone, *sorted({kept(self.digests, each, self.digest) for each in definitions})]
        behaviour = {file: digest_of("".join(digests)) for file, digests in sorted(files.items())}
        return Made(roots, digest_of("\n".join(everything)), behaviour)

    def digest_of_text(self, file: str) -> str:
        text = self.text_of(file)
        return behaviour_of_notebook(text) if file.endswith(".ipynb") else digest_of(text)

    def source_of(self, file: str) -> str:
        """The Python of a file: of a notebook, its cells, one after the other."""
        text = self.text_of(file)
        return source_of_notebook(text) if file.endswith(".ipynb") else text

    def text_of(self, file: str) -> str:
        return kept(self.texts, file, lambda file: (self.root / file).read_text(encoding="utf-8"))

    # Following names --------------------------------------------------------------------------------------------------

    def reach(self, roots: tuple[str, ...]) -> list[Definition]:
        """All definitions that are reached, sorted."""
        if roots not in self.reached:
            found: set[Definition] = set()
            sources = [root for root in roots if "/" not in root or root.endswith((".py", ".ipynb"))]
            waiting = [each for root in sources for each in self.entries(root)]
            attributes: set[str] = set()
            while waiting:
                each = waiting.pop()
                if each not in found:
                    found.add(each)
                    for meant in self.references(each).values():
                        waiting += meant if isinstance(meant, set) else []
                    attributes |= self.attributes[each]
                if not waiting:
                    called = [method for method in self.methods if method.name.split(".")[1] in attributes]
                    waiting = [each for each in [*called, *self.run_by_importing(found)] if each not in found]
            self.reached[roots] = sorted(found)
        return self.reached[roots]

    def entries(self, root: str) -> list[Definition]:
        nodes = self.module(root).nodes
        is_command = root.startswith(f"{PACKAGE}.commands.") and "main" in nodes
        return [Definition(root, name) for name in (["main"] if is_command else nodes)]

    @cached_property
    def methods(self) -> list[Definition]:
        """Those of all recipes: they are read from files, so nothing that makes them says their class's name."""
        files = sorted(self.root.glob(f"src/{PACKAGE}/*/recipes.py"))
        names = [f"{PACKAGE}.{file.parent.name}.recipes" for file in files]
        return [
            Definition(module, f"{node.name}.{method.name}")
            for module in names
            for (node, *_) in self.module(module).nodes.values()
            if isinstance(node, ast.ClassDef) and self.is_recipe(module, node)
            for method in methods_of(node)
        ]

    def run_by_importing(self, found: set[Definition]) -> list[Definition]:
        """The loose statements of all modules that are imported where `found` runs; none of the plumbing."""
        modules: set[str] = set()
        waiting = {each.module for each in found}.union(*(self.asked[each] for each in found))
        while waiting:
            for name in set(self.on_the_way(waiting.pop())) - modules:
                modules.add(name)
                waiting |= self.module(name).asked
        loose = [name for name in modules if LOOSE in self.module(name).nodes and not is_plumbing(name)]
        return [Definition(name, LOOSE) for name in loose]

    def digest(self, each: Definition) -> str:
        """Of a definition's tree, and of what its names mean: those of libraries by name, ours by their own trees."""
        said = [
            f"{word}={meant if isinstance(meant, str) else sorted(map(self.tree, meant))}\n"
            for word, meant in sorted(self.references(each).items())
        ]
        return digest_of(self.tree(each) + "".join(said))

    def said_in_its_file(self, each: Definition) -> str:
        """Its tree, and what its names mean by name alone: an edit of what they mean is one of another file."""
        meanings = sorted(self.references(each).items())
        names = [
            (word, meant if isinstance(meant, str) else sorted(one.name for one in meant)) for word, meant in meanings
        ]
        return f"{self.tree(each)} {names}\n"

    def tree(self, each: Definition) -> str:
        """Digest of a definition's own statements."""
        return kept(self.trees, each, lambda each: digest_of("".join(map(written, self.statements(each)))))

    def statements(self, each: Definition) -> list[ast.stmt]:
        """What computes of a definition: of a recipe no fields, as their values stand in the job."""
        name, _, method = each.name.partition(".")
        found = []
        for node in self.module(each.module).nodes.get(name, []):
            if isinstance(node, ast.ClassDef) and self.is_recipe(each.module, node):
                methods = [one for one in methods_of(node) if one.name == method or not method]
                found += methods if method else [*methods, *constants_of(node)]
            else:
                found.append(node)
        return found

    def is_recipe(self, module: str, node: ast.ClassDef) -> bool:
        """Whether a class is made of deit.bounds.Recipe."""
        for _, dotted in self.bases(module, node):
            if dotted == RECIPE:
                return True
            if (meant := self.resolved(dotted, plumbing=True)) and any(
                isinstance(one, ast.ClassDef) and self.is_recipe(meant.module, one)
                for one in self.module(meant.module).nodes.get(meant.name, [])
            ):
                return True
        return False

    def bases(self, module: str, node: ast.ClassDef) -> list[tuple[str, str]]:
        """Names, plain and dotted, of what a class is made of."""
        names = [base.id for base in node.bases if isinstance(base, ast.Name)]
        return [(name, self.module(module).imports.get(name, f"{module}.{name}")) for name in names]

    def references(self, each: Definition) -> dict[str, set[Definition] | str]:
        """What each name in a definition means: definitions of ours, or another library's dotted name."""
        return kept(self.meant, each, self.find_references)

    def find_references(self, each: Definition) -> dict[str, set[Definition] | str]:
        module = self.module(each.module)
        found: dict[str, set[Definition] | str] = {}
        if each.name != LOOSE and LOOSE in module.nodes:
            found[LOOSE] = {Definition(module.name, LOOSE)}
        statements = self.statements(each)
        nodes = [node for statement in statements for node in ast.walk(statement)]
        self.attributes[each] = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        inner = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        self.asked[each] = {dotted for node in inner for dotted in asked(node, module.package)}
        imports = dict(module.imports)
        for node in inner:
            imports |= imported(node, module.package)
        names = [pair for statement in statements for pair in names_in(statement, module, imports)]
        for word, dotted in [*names, *self.inherited(each)]:
            if meant := self.resolved(dotted):
                whole = {Definition(meant.module, name) for name in self.module(meant.module).nodes}
                found[word] = (whole if meant.name == WHOLE else {meant}) - {each}
            elif not dotted.startswith(f"{PACKAGE}."):
                found[word] = dotted
        return found

    def inherited(self, each: Definition) -> list[tuple[str, str]]:
        """What a recipe's class inherits methods from, which is left out with its fields: names, plain and dotted."""
        nodes = [node for node in self.module(each.module).nodes.get(each.name, []) if isinstance(node, ast.ClassDef)]
        bases = [base for node in nodes if self.is_recipe(each.module, node) for base in self.bases(each.module, node)]
        return [(name, dotted) for name, dotted in bases if dotted != RECIPE]

    def resolved(self, dotted: str, plumbing: bool = False) -> Definition | None:
        """The definition of ours that a dotted name means, by way of what its module imports; None where it is none.

        A module that nobody asks for one of its names is its whole. Nothing of the plumbing is a definition, unless it
        is asked for.
        """
        words = dotted.split(".")
        for length in range(len(words), 1, -1):
            name = ".".join(words[:length])
            if not self.is_module(name):
                continue
            if is_plumbing(name) and not plumbing:
                return None
            if length == len(words):
                return Definition(name, WHOLE)
            module, wanted = self.module(name), words[length]
            if wanted in module.nodes:
                return Definition(name, wanted)
            if wanted in module.imports:
                return self.resolved(module.imports[wanted], plumbing)
            if LOOSE in module.nodes:  # where it may be made under an `if` or `try`
                return Definition(name, LOOSE)
        return None

    # Modules ----------------------------------------------------------------------------------------------------------

    def is_module(self, name: str) -> bool:
        return name.partition(".")[0] == PACKAGE and kept(self.there, name, self.has)

    def on_the_way(self, dotted: str) -> list[str]:
        """The modules of ours that are run where a dotted name is imported: packages, and itself where it is one."""
        words = dotted.split(".")
        names = [".".join(words[:length]) for length in range(1, len(words) + 1)]
        return [dotted] if "/" in dotted else [name for name in names if self.is_module(name)]

    def has(self, module: str) -> bool:
        return (self.root / self.file_of(module)).exists()

    def file_of(self, module: str) -> str:
        """That of a module of ours; files outside of the package are called by their own paths."""
        return module if "/" in module else kept(self.files, module, self.find_file)

    def find_file(self, module: str) -> str:
        path = Path("src", *module.split("."))
        return (path / "__init__.py" if (self.root / path).is_dir() else path.with_suffix(".py")).as_posix()

    def module(self, name: str) -> Module:
        return kept(self.modules, name, self.read)

    def read(self, name: str) -> Module:
        file = self.file_of(name)
        module = Module(name, name if file.endswith("__init__.py") else name.rpartition(".")[0])
        for statement in ast.parse(self.source_of(file)).body:
            if is_silent(statement) or is_for_types_or_a_start(statement):
                continue
            if isinstance(statement, ast.Import | ast.ImportFrom):
                module.imports |= imported(statement, module.package)
                module.asked |= asked(statement, module.package)
            else:
                for word in defined(statement):
                    module.nodes.setdefault(word, []).append(statement)
        return module


def kept(table: dict, key: Any, make: Callable) -> Any:
    """What a table has of a key; made where it has none yet."""
    if key not in table:
        table[key] = make(key)
    return table[key]


@cache
def our_code() -> Code:
    """The code of this project, as it stood when first asked for."""
    texts = texts_of(ROOT, PACKAGE)
    return Code(ROOT, texts, Remembered(ROOT, texts))


def edited(then: Made) -> list[str]:
    """The files that compute otherwise today than when `then` was planned, or are gone."""
    try:
        now = our_code().made_by(then.roots)
    except FileNotFoundError as error:
        return [str(error.filename)]
    return [] if now.code == then.code else sorted({file for file, _ in now.behaviour.items() ^ then.behaviour.items()})


# Trees ----------------------------------------------------------------------------------------------------------------


def is_plumbing(module: str) -> bool:
    """Whether a module is of the store, or what all commands have in common. Frames are what tables are read from."""
    in_store = module.split(".")[1:2] == ["store"] and module != f"{PACKAGE}.store.frames"
    return in_store or module == f"{PACKAGE}.commands"


def names_in(statement: ast.stmt, module: Module, imports: dict[str, str]) -> Iterator[tuple[str, str]]:
    """A statement's names, and the dotted names that they may mean outside of it, also where a variable has them."""
    for node in meaningful(statement):
        first, *rest = chain_of(node)
        if first in imports:
            yield ".".join([first, *rest]), ".".join([imports[first], *rest])
        elif first in module.nodes:
            yield first, f"{module.name}.{first}"


def meaningful(node: ast.AST) -> Iterator[ast.AST]:
    """Names, and the longest attributes of names, of all that computes."""
    if chain_of(node):
        yield node
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, ast.AST) and not is_silent(inner) and not isinstance(inner, ast.Raise):
                yield from meaningful(inner)


def chain_of(node: ast.AST) -> list[str]:
    """`a.b.c` as its words; nothing for other expressions."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (before := chain_of(node.value)):
        return [*before, node.attr]
    return []


def methods_of(recipe: ast.ClassDef) -> list[ast.FunctionDef]:
    """But for those that check or change what is given, before it becomes a value of the job."""
    methods = [node for node in recipe.body if isinstance(node, ast.FunctionDef)]
    return [node for node in methods if not any(VALIDATORS & words_in(each) for each in node.decorator_list)]


def constants_of(recipe: ast.ClassDef) -> list[ast.stmt]:
    """What a recipe's class says of all its instances: neither method nor field, nor marked as FIXED (bounds.py)."""
    others = [node for node in recipe.body if not isinstance(node, FUNCTIONS) and not is_field(node)]
    return [node for node in others if not is_silent(node) and not words_in(node) & {"model_config", "title", "FIXED"}]


def is_field(node: ast.stmt) -> bool:
    """Whether a statement of a recipe's class makes a field, as pydantic knows them: its value stands in the job."""
    if not isinstance(node, ast.AnnAssign):
        return False
    is_private = isinstance(node.target, ast.Name) and node.target.id.startswith("_")
    is_constant = bool({"ClassVar", "Final"} & set(re.findall(r"\w+", ast.unparse(node.annotation))))
    return node.value is None or not (is_private or is_constant)


def is_for_types_or_a_start(statement: ast.stmt) -> bool:
    """`if TYPE_CHECKING:` and `if __name__ == "__main__":`"""
    return isinstance(statement, ast.If) and bool(words_in(statement.test) & {"TYPE_CHECKING", "__name__"})


def defined(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module gives."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    if targets and all(isinstance(target, ast.Name | ast.Tuple) for target in targets):
        return [word for target in targets for word in sorted(words_in(target))]
    return [LOOSE]


def imported(statement: ast.Import | ast.ImportFrom, package: str) -> dict[str, str]:
    """Name -> what it means, dotted."""
    if isinstance(statement, ast.Import):
        firsts = {alias.name.partition(".")[0]: alias.name.partition(".")[0] for alias in statement.names}
        return firsts | {alias.asname: alias.name for alias in statement.names if alias.asname}
    base = statement.module or ""
    if statement.level:
        above = package.split(".")[: len(package.split(".")) - statement.level + 1]
        base = ".".join([*above, base] if base else above)
    return {alias.asname or alias.name: f"{base}.{alias.name}" for alias in statement.names}


def asked(statement: ast.Import | ast.ImportFrom, package: str) -> set[str]:
    """Dotted names of what is imported, whatever it is called: `import a.b` gives `a`, and asks for `a.b`."""
    if isinstance(statement, ast.Import):
        return {alias.name for alias in statement.names}
    return set(imported(statement, package).values())
