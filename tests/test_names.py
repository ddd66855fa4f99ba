"""Names of results follow the code that computes them: which edits rename what. The tree is edited in memory."""

import ast
import copy
import random
import sys
from collections.abc import Iterator

import pytest
from plan.plan import Plan
from plan.studies import plan_study

from deit.store.job import Job
from deit.store.reach import LOOSE, Code, Definition, asked, is_plumbing
from deit.store.syntax import is_silent, words_in, written

TRAININGS = {"labels", "soft", "hard", "token", "two-class-tokens", "pass"}
"""Kinds of jobs; a training's is its objective, a table's its name."""
CACHES = {"cache", "pass"}
STREAMS = TRAININGS | {"cache", "views", "report"}
"""Kinds whose commands make views, for the page's pictures too."""
SEEN = STREAMS | {"data", "predict", "tokens"}
"""Kinds whose commands read images, the page of a report too."""

OURS = Code()


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_study("smoke")


@pytest.fixture(scope="module")
def roots(plan) -> dict[str, tuple[str, ...]]:
    """Kind, and of a table its name -> from where its code is reached."""
    found = {kind_of(job): job.roots for job in plan.jobs.values()}
    return found | {"pass": ("deit.commands.train_pass",), "import": ("deit.commands.import_weights",)}


def kind_of(job: Job) -> str:
    if job.kind == "train":
        return job.recipe["objective"]["loss"]
    return job.recipe["table"] if job.kind == "table" else job.kind


@pytest.fixture(scope="module")
def names(roots) -> dict[str, str]:
    """The same -> digest of the code."""
    return {kind: OURS.made_by(of_kind).code for kind, of_kind in roots.items()}


def renamed(roots, names, edits: dict[str, tuple[str, str]]) -> set[str]:
    """The kinds of jobs whose names change when files are edited: file -> (old text, new text)."""
    texts = {}
    for file, (old, new) in edits.items():
        text = OURS.text_of(file)
        assert old in text, f"{old!r} is not in {file}"
        texts[file] = text.replace(old, new, 1)
    return changed(roots, names, texts)


def changed(roots, names, texts: dict[str, str]) -> set[str]:
    """The kinds of jobs whose names are others where files have other texts."""
    code = Code(texts=texts)
    same = {name for name in OURS.modules if OURS.file_of(name) not in texts}
    code.modules = {name: OURS.modules[name] for name in same}
    code.trees = {each: tree for each, tree in OURS.trees.items() if each.module in same}
    return {kind for kind, of_kind in roots.items() if code.made_by(of_kind).code != names[kind]}


HARMLESS = {
    "an error's words": ("src/deit/store/results.py", "Recipes are never edited", "Nobody edits recipes"),
    "an error's words where views are made": ("src/deit/see/stored_views.py", "Delete the folder", "Remove the folder"),
    "a new refusal": (
        "src/deit/learn/schedules.py",
        "    peak = ",
        "    if step < 0:\n        raise SystemExit('a step below 0')\n    peak = ",
    ),
    "a line of a log": ("src/deit/learn/training.py", "log.info(", "log.warning("),
    "what is said of a run that diverged": ("src/deit/learn/run_state.py", "Nothing of it was", "None of it was"),
    "what ranks that differ are told": ("src/deit/learn/run_state.py", "Nothing was trained or", "Nothing was"),
    "plumbing": ("src/deit/store/shards.py", "import ", "import this\nimport "),
    "the help of a command": ("src/deit/commands/train.py", "asked about every view", "asked of each view"),
    "a docstring": ("src/deit/see/mixing.py", '"""', '"""In other words: '),
    "a comment": ("src/deit/learn/schedules.py", "\ndef ", "\n# why\ndef "),
    "an annotation": ("src/deit/learn/objectives/labels.py", ') -> "Tensor"', ") -> object"),
    "a function that nobody calls": (
        "src/deit/see/views.py",
        "\n\n\ndef ",
        "\n\n\ndef unused():\n    return 1\n\n\ndef ",
    ),
    "a bound": ("src/deit/bounds.py", "le=10**9", "le=10**8"),
    "an import of a module that runs nothing": (
        "src/deit/learn/objectives/soft.py",
        "from deit.bounds",
        "import deit.networks.torchrun\nfrom deit.bounds",
    ),
    "a field's check": ("src/deit/see/recipes.py", "AUGMENTATION.fullmatch(", "AUGMENTATION.match("),
    "an optimiser allowed": ("src/deit/learn/recipes.py", '"sgd": (),', '"sgd": (), "sgdw": (),'),
    "a new option": (
        "src/deit/learn/recipes.py",
        "    train_mode: bool = True",
        "    cautious: bool | None = None\n    train_mode: bool = True",
    ),
    "a reader that no job uses": ("src/deit/see/readers/cifar_binary.py", "-PIXELS - 1", "-PIXELS - 2"),
    "an objective that no job uses": ("src/deit/learn/objectives/soft_token.py", ") / 2", ") / 3"),
    "what a reader refuses": ("src/deit/see/array_reader.py", "yield Mistake(", "yield 1, Mistake("),
    "how resources are said": ("src/deit/store/job.py", "mem_mb: Count = 2000", "mem_mb: Count = 3000"),
}


@pytest.mark.parametrize("edit", HARMLESS)
def test_an_edit_that_moves_no_number_renames_nothing(edit, roots, names):
    file, old, new = HARMLESS[edit]
    assert renamed(roots, names, {file: (old, new)}) == set()


def test_a_function_that_moves_to_another_file_renames_nothing(roots, names):
    token, schedules, name = "src/deit/learn/objectives/token.py", "src/deit/learn/schedules.py", "each_half"
    text = OURS.text_of(token)
    function = next(node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name)
    source = ast.get_source_segment(text, function)
    texts = {
        token: f"from deit.learn.schedules import {name}\n{text.replace(source, '')}",
        schedules: f"from deit.learn.objectives.labels import labels_loss\n{OURS.text_of(schedules)}\n\n{source}\n",
    }
    assert changed(roots, names, texts) == set()


RUNS = '."""\nimport torch\n\ntorch.set_default_dtype(torch.float64)'
"""The end of a package's docstring, and what the package does to whoever imports anything in it."""
HARMFUL = {
    "half of a loss": ("src/deit/learn/objectives/token.py", "decisions)) / 2", "decisions)) / 3", {"token", "hard"}),
    "one objective": ("src/deit/learn/objectives/soft.py", "self.temperature**2 * far", "far", {"soft"}),
    "what all learn": ("src/deit/learn/objectives/labels.py", "logits.float()", "logits", TRAININGS - {"pass"}),
    "a library's function": (
        "src/deit/learn/objectives/soft.py",
        "t kl_div",
        "t l1_loss as kl_div",
        {"soft"},
    ),
    "what an objective asks": ("src/deit/learn/objectives/soft.py", '"logits"', '"labels"', {"soft"}),
    "the warm-up": ("src/deit/learn/schedules.py", "step / warmup_steps", "(step + 1) / warmup_steps", TRAININGS),
    "the reference batch": (
        "src/deit/learn/schedules.py",
        "REFERENCE_BATCH = 512",
        "REFERENCE_BATCH = 1024",
        TRAININGS,
    ),
    "which steps are skipped": ("src/deit/learn/finite.py", "isfinite()", "isnan()", TRAININGS),
    "how ranks sum": (
        "src/deit/networks/distributed.py",
        "dist.all_reduce(flat)",
        "dist.all_reduce(2 * flat)",
        TRAININGS,
    ),
    "how gradients are summed": ("src/deit/learn/reduction.py", "all_reduce(flat", "all_reduce(2 * flat", TRAININGS),
    "a kept share of a mixed view": ("src/deit/see/finishing.py", "1 - own", "own", STREAMS),
    "the order of draws": ("src/deit/see/mixing.py", "np.random.seed(key)", "np.random.seed(key + 1)", STREAMS),
    "interpolation of views": (
        "src/deit/see/views.py",
        'interpolation or "bicubic"',
        'interpolation or "random"',
        STREAMS,
    ),
    "interpolation of an evaluation": (
        "src/deit/see/views.py",
        'interpolation="bicubic"',
        'interpolation="bilinear"',
        None,
    ),
    "a network's argument": ("src/deit/networks/models.py", "drop_path_rate=model", "drop_rate=model", None),
    "how a head is read": ("src/deit/networks/models.py", "heads[1].softmax(-1)", "heads[0].softmax(-1)", None),
    "what a teacher decides": (
        "src/deit/teach/teacher_logits.py",
        "logits.argmax(1, keepdim",
        "logits.argmin(1, keepdim",
        {"cache", "pass"},
    ),
    "how a pixel is read": ("src/deit/see/readers/idx.py", "np.uint8", "np.int8", SEEN - {"pass", "report"}),
    "the steps of an epoch": ("src/deit/see/recipes.py", "// self.batch", "// self.batch + 1", STREAMS),
    "the confidence of an interval": ("src/deit/tables/statistics.py", "CONFIDENCE = 0.95", "CONFIDENCE = 0.9", None),
    "a number of the paper's": ("src/deit/paper/table_3.csv", "81.8", "81.9", None),
    "how speed is measured": ("src/deit/networks/throughput.py", "perf_counter", "process_time", {"throughput"}),
    "what all code runs first": ("src/deit/__init__.py", '."""', RUNS, None),
    "what learning runs first": ("src/deit/learn/__init__.py", '."""', RUNS, TRAININGS | {"report"}),
    "what networks run first": ("src/deit/networks/__init__.py", '."""', RUNS, None),
    "what readers and views run first": (
        "src/deit/see/__init__.py",
        '."""',
        '."""\nimport timm.data.auto_augment as a\n\na._LEVEL_DENOM = 5',
        None,
    ),
}


@pytest.mark.parametrize("edit", HARMFUL)
def test_an_edit_that_may_move_a_number_renames_what_it_makes(edit, roots, names):
    file, old, new, kinds = HARMFUL[edit]
    found = renamed(roots, names, {file: (old, new)})
    assert found and (kinds is None or found == kinds)


def test_a_method_that_a_recipe_inherits_counts(roots, names):
    """As of a class between `Objective` and two objectives."""
    token, labels = "src/deit/learn/objectives/token.py", "src/deit/learn/objectives/labels.py"
    texts = {
        token: OURS.text_of(token)
        .replace("Token(Objective)", "Token(Labels)")
        .replace("labels_loss", "Labels, labels_loss", 1)
    }
    one, other = (
        Code(
            texts=texts
            | {labels: OURS.text_of(labels).replace("return labels_loss(only", f"return {weight} * labels_loss(only")}
        )
        for weight in (1, 2)
    )
    assert one.made_by(roots["token"]).code != other.made_by(roots["token"]).code


@pytest.mark.parametrize(
    "constant",
    [
        "sharpen = {}",
        "sharpen: ClassVar[float] = {}",
        "sharpen: 'ClassVar[float]' = {}",
        "sharpen: typing.ClassVar = {}",
        "sharpen: Final[float] = {}",
        "_sharpen: float = {}",
        "if True:\n        sharpen = {}",
    ],
)
def test_a_constant_of_a_recipe_counts_however_it_is_written(constant, roots):
    """As only fields have values that stand in the job."""
    file, before = "src/deit/learn/objectives/soft.py", '    teacher_says = "logits"\n'
    text = OURS.text_of(file)
    assert before in text
    one, other = (
        Code(texts={file: text.replace(before, f"{before}    {constant.format(value)}\n")}) for value in (1.0, 7.0)
    )
    assert one.made_by(roots["soft"]).code != other.made_by(roots["soft"]).code


def test_an_annotation_of_a_constant_renames_nothing(roots, names):
    annotated = "    tokens = 2", "    tokens: ClassVar[int] = 2"
    assert renamed(roots, names, {"src/deit/learn/objectives/token.py": annotated}) == set()


def test_constants_that_count_for_no_name_are_as_they_were():
    """An objective that asks for more says so itself, which counts. A new constant is not marked, and counts, too."""
    marked = {
        f"{node.name}.{ast.unparse(one.target)}": ast.literal_eval(one.value)
        for path in OURS.root.glob("src/deit/**/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for one in node.body
        if "FIXED" in words_in(one)
    }
    assert marked == {"Objective.teacher_says": "", "Objective.tokens": 1, "Objective.heads": ("class",)}


def test_imports_that_swap_their_names_count(roots, names):
    names_of = "log_softmax, softmax", "log_softmax as softmax, softmax as log_softmax"
    assert renamed(roots, names, {"src/deit/learn/objectives/soft.py": names_of}) == {"soft"}


def test_a_constant_that_its_module_makes_under_a_condition_counts(roots, names):
    soft, elsewhere = "src/deit/learn/objectives/soft.py", "src/deit/networks/torchrun.py"
    text = OURS.text_of(soft).replace("temperature**2", "temperature**POWER")
    texts = {soft: text.replace("from deit.bounds", "from deit.networks.torchrun import POWER\nfrom deit.bounds")}
    one, other = (
        Code(texts=texts | {elsewhere: f"{OURS.text_of(elsewhere)}\nif True:\n    POWER = {power}\n"})
        for power in (2, 3)
    )
    assert one.made_by(roots["soft"]).code != other.made_by(roots["soft"]).code


SOFT = "src/deit/learn/objectives/soft.py"


@pytest.mark.parametrize(
    ("file", "before", "imports"),
    [
        (SOFT, "from deit.bounds", "import deit.networks.torchrun\n"),
        (SOFT, "from deit.bounds", "import deit.networks.torchrun as patches\n"),
        (SOFT, "from deit.bounds", "from deit.networks import torchrun\n"),
        (SOFT, "from deit.bounds", "from deit.networks.torchrun import run\n"),
        (SOFT, "        assert teacher", "        import deit.networks.torchrun\n\n"),
        ("src/deit/learn/reduction.py", "import torch", "import deit.networks.torchrun\n"),
        ("src/deit/commands/__init__.py", "from deit.store", "import deit.networks.torchrun\n"),
    ],
)
def test_what_a_module_runs_counts_where_it_is_imported_for_that(file, before, imports, roots):
    """Though none of its names is used."""
    text, elsewhere = OURS.text_of(file), "src/deit/networks/torchrun.py"
    assert before in text
    importing = {file: text.replace(before, f"{imports}{before}", 1)}
    patched = {elsewhere: f"{OURS.text_of(elsewhere)}\nimport torch\n\ntorch.set_default_dtype(torch.float64)\n"}
    one, other = (Code(texts=importing | more) for more in ({}, patched))
    assert one.made_by(roots["soft"]).code != other.made_by(roots["soft"]).code


# Every operator and number --------------------------------------------------------------------------------------------

OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mod, ast.Pow: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.Is: ast.IsNot, ast.USub: ast.UAdd, ast.Not: ast.UAdd,
}  # fmt: skip


def mutants(node: ast.AST) -> Iterator[str]:
    """Changes a number, a name of a function or an operator of a tree, one at a time; says where."""
    for name, value in ast.iter_fields(node):
        for number, inner in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(inner, ast.AST) or is_left_out(node, name, inner):
                continue
            if type(inner) in OPERATORS:
                other = OPERATORS[type(inner)]()
                put(node, name, number, other)
                yield f"{ast.unparse(node)}"
                put(node, name, number, inner)
            elif isinstance(inner, ast.Constant) and type(inner.value) in (int, float, bool):
                kept, inner.value = inner.value, (not inner.value if type(inner.value) is bool else inner.value + 1)
                yield ast.unparse(node)
                inner.value = kept
            elif isinstance(inner, ast.Attribute):
                inner.attr = f"{inner.attr}_"
                yield ast.unparse(node)
                inner.attr = inner.attr[:-1]
            yield from mutants(inner)


def put(node: ast.AST, field: str, number: int, value: ast.AST) -> None:
    if isinstance(getattr(node, field), list):
        getattr(node, field)[number] = value
    else:
        setattr(node, field, value)


def is_left_out(node: ast.AST, field: str, inner: ast.AST) -> bool:
    """What says nothing of a number, by reason: told, refused, of a type, or the words of an error."""
    return field in ("annotation", "returns", "msg") or isinstance(node, ast.Raise) or is_silent(inner)


def test_no_number_operator_or_function_changes_without_a_new_name(roots):
    """Of all that any command reaches: some thousand changes, of which every tenth is tried."""
    code, tried, draw = OURS, 0, random.Random(0)
    reached = sorted({each for of_kind in roots.values() for each in code.made_by(of_kind) and code.reach(of_kind)})
    for each in reached:
        for statement in copy.deepcopy(code.statements(each)):
            before = written(statement)
            for mutant in mutants(statement):
                if draw.random() < 0.1:
                    tried += 1
                    assert written(statement) != before, f"{each.module}: {each.name}: {mutant}"
            assert written(statement) == before
    assert tried > 500


def test_what_no_command_reaches_makes_no_result(roots):
    """Functions of the computing rooms that count for no result are few, and known."""
    code = OURS
    reached = {each for of_kind in roots.values() for each in code.reach(tuple(sorted(set(of_kind))))}
    rooms = ("see", "networks", "teach", "learn", "tables")
    modules = sorted({code_module(path) for room in rooms for path in code.root.glob(f"src/deit/{room}/*.py")})
    chosen = [
        path for folder in ("see/readers", "learn/objectives") for path in OURS.root.glob(f"src/deit/{folder}/*.py")
    ]
    reached |= {each for path in chosen for each in code.reach((code_module(path),))}
    called = {
        f"{name}.{word}"
        for name in modules
        for word, statements in code.module(name).nodes.items()
        for statement in statements
        if isinstance(statement, ast.FunctionDef) and Definition(name, word) not in reached
    }
    assert called == WORDS


WORDS = {
    "deit.see.decode_check.told",
    "deit.see.decoding.damaged",
    "deit.see.recipes.known_augmentation",
    "deit.see.recipes.known_reader",
    "deit.networks.check.said",
    "deit.networks.check.other_size",
    "deit.networks.check.another",
    "deit.networks.models.listed",
    "deit.see.recipes.none_if_bicubic",
    "deit.networks.given.is_entry",
    "deit.networks.torchrun.address_of",
    "deit.networks.torchrun.interface_towards",
    "deit.networks.torchrun.run",
    "deit.networks.torchrun.status_of",
    "deit.learn.recipes.known_optimizer",
    "deit.tables.checks.epochs_of",
}
"""Functions that word a message, or check what is given; and torchrun's, which ends processes."""


def code_module(path) -> str:
    """Dotted; of a package, its own name."""
    words = path.relative_to(OURS.root / "src").with_suffix("").parts
    return ".".join(words).removesuffix(".__init__")


# What counts for nothing ----------------------------------------------------------------------------------------------


def test_the_store_counts_for_nothing(roots):
    code = OURS
    reached = {each.module for of_kind in roots.values() for each in code.reach(tuple(sorted(set(of_kind))))}
    assert not any(map(is_plumbing, reached)) and is_plumbing("deit.store.results")


def test_the_plumbing_does_nothing_where_it_is_imported():
    """But for these, as it counts for nothing."""
    files = [*OURS.root.glob("src/deit/store/*.py"), OURS.root / "src/deit/commands/__init__.py"]
    modules = [OURS.module(name) for name in map(code_module, files) if is_plumbing(name)]
    found = {each.name: [ast.unparse(one) for one in each.nodes[LOOSE]] for each in modules if LOOSE in each.nodes}
    assert found == {
        "deit.commands": ["if sys.argv[0] == '-m':\n    gc.disable()"],
        "deit.store.results": ["RECORDED_VARIABLES += ('OPENBLAS_', 'PYTORCH_', 'TORCH', 'LD_PRELOAD')"],
    }


def test_what_all_commands_have_in_common_knows_no_library_that_computes():
    """As it counts for nothing, too."""
    nodes = ast.walk(ast.parse(OURS.text_of("src/deit/commands/__init__.py")))
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {name for node in imports for name in asked(node, "deit.commands")}
    others = {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}
    assert others and all(name.startswith("deit.store.") for name in others)
