"""docs/safety.md lists every module that deletes, replaces, follows or sends."""

import ast
from pathlib import Path

import raydrgn

PACKAGE = Path(raydrgn.__file__).parent
DOCS = PACKAGE.parent / "docs" / "safety.md"

METHODS = {
    *("unlink", "rmdir", "rmtree", "rm", "rename", "symlink_to", "hardlink_to"),
    *("kill", "terminate", "killpg", "dup2", "Popen", "urlopen", "truncate"),
}
"""Names that mean one of these, whatever they are called on."""

FUNCTIONS = {
    *("storage.remove", "os.remove", "os.replace", "os.link", "os.symlink", "shutil.move"),
    *("shutil.copyfileobj", "subprocess.run", "requests.get", "requests.post"),
}


def calls(path):
    """Yield the name of each function that a module calls, with what it is called on."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            yield f"{owner}.{node.func.attr}", node


def is_dangerous(name, call):
    method = name.rpartition(".")[2]
    mode = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
    opens = method == "open" and isinstance(mode, str) and mode[:1] in ("w", "a", "x") and mode
    return name in FUNCTIONS or method in METHODS or bool(opens)


def test_every_module_with_a_dangerous_call_is_listed():
    listed = DOCS.read_text()
    missing = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, call in calls(path)
        if is_dangerous(name, call) and f"`{path.relative_to(PACKAGE)}`" not in listed
    }
    assert not missing
