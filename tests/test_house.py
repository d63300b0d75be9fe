"""The layout of the package: sizes, signatures, docstrings, imports."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import raydrgn
import raydrgn.workflows

ROOT = Path(raydrgn.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))
PACKAGES = sorted(path.parent for path in ROOT.glob("*/__init__.py"))
COMMANDS = sorted((ROOT / "cli").glob("*.py"))

MOST_LINES, MOST_PARAMETERS = 400, 8
MOST_BODY_LINES, MOST_COMMAND_LINES = 40, 25
NO_COMMAND = {"epoch", "run_or_maps", "train_settings"}
"""Modules of ``workflows`` that have settings, but no ``run``."""


def name_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def functions(path):
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def body_lines(function):
    """Return the lines of a function's body without its docstring."""
    first, *rest = function.body
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
        rest = [first, *rest]
    return rest[-1].end_lineno - rest[0].lineno + 1 if rest else 0


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_short(path):
    for function in functions(path):
        length = body_lines(function)
        assert length <= MOST_BODY_LINES, f"{function.name}: {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_short_and_their_functions_take_few_parameters(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES
    for function in functions(path):
        listed = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        taken = [argument for argument in listed if argument.arg not in ("self", "cls")]
        assert len(taken) <= MOST_PARAMETERS, f"{function.name} takes {len(taken)} parameters"


@pytest.mark.parametrize(
    "path", TESTS, ids=lambda path: str(path.relative_to(Path(__file__).parent))
)
def test_files_of_tests_are_as_short(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_docstring_of_a_package_lists_its_modules(package):
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
    listed = re.findall(r"^(\w+)(?:  +\S.*)?$", text, re.MULTILINE)
    found = {path.stem for path in package.glob("*.py")} - {"__init__"}
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_the_body_of_a_command_only_calls_and_prints(path):
    for function in functions(path):
        if function.decorator_list:
            length = body_lines(function)
            assert length <= MOST_COMMAND_LINES, f"{function.name}: {length} lines"


def imported(path):
    """Return the modules of raydrgn that a module imports when it is imported itself."""
    known = {name_of(module) for module in MODULES}
    pending, found = list(ast.parse(path.read_text()).body), set()
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return (found & known) - {name_of(path)}


def test_imports_do_not_go_in_circles():
    imports = {name_of(path): imported(path) for path in MODULES if path.name != "__init__.py"}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def workflows():
    names = (module.name for module in pkgutil.iter_modules(raydrgn.workflows.__path__))
    return [name for name in names if name not in NO_COMMAND]


@pytest.mark.parametrize("name", workflows())
def test_a_workflow_has_settings_and_results_and_takes_both_executor_and_progress(name):
    module = importlib.import_module(f"raydrgn.workflows.{name}")
    own = {
        kind: item
        for kind, item in inspect.getmembers(module, inspect.isclass)
        if item.__module__ in (module.__name__, f"{module.__name__}_settings")
    }
    settings = [item for kind, item in own.items() if kind.endswith("Settings")]
    assert settings
    assert all(dataclasses.is_dataclass(item) for item in settings)
    runs = [run for kind, run in vars(module).items() if kind == "run" or kind.startswith("run_")]
    assert runs
    for run in runs:
        first, *others = inspect.signature(run).parameters.values()
        assert first.name == "settings"
        assert [other.name for other in others] == ["executor", "progress"]
        assert str(inspect.signature(run).return_annotation) not in ("None", "")
