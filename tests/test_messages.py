"""No message names an option that the command at hand does not have.

Every string in every function that a command can reach is looked at. An option in it must be one
of that command's own, or the string must name a command that has it (``raydrgn parse --box``).

What a command reaches is found from the source: names are followed through imports; a method of an
object whose class is not known is any method of that name in the modules that are imported there,
or in those that these import.
"""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
import typer

import raydrgn
from raydrgn.cli.main import app

PACKAGE = Path(raydrgn.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
NAMED_COMMAND = re.compile(r"raydrgn ((?:[a-z]+ ?)+)")
QUOTED_COMMAND = re.compile(r"`raydrgn ([^`]+)`")
COMMON = {"--help"}
COMPOSED = ("demo", "bench ", "protocol", "explore")
"""Commands that call other workflows with settings of their own, which no user has given."""

OTHER_COMMAND = re.compile("ray start (--head( --dashboard-agent-listen-port)?|--num-gpus)")

EXEMPT = {
    "raydrgn.io.imaging:OPTIONS",  # put into a sentence with `raydrgn parse`
    "raydrgn.io.cryosparc:aligned_pixel_size",  # about an option that has been given
    "raydrgn.run.cryodrgn_export:_configuration",  # of cryoDRGN
    "raydrgn.remote.autoscaler:OPTION",  # of Ray's monitor
    "raydrgn.remote.autoscaler:_monitor_command",
    "raydrgn.training.gpu_memory:QUERY",  # of nvidia-smi
    "raydrgn.remote.allocation:_fewer_gpus",  # only where GPUs are asked for, with that option
}

EXECUTOR = "raydrgn.remote.executor:Executor."

NOT_TAKEN = {
    # Any error of these is replaced by one that has no option of theirs.
    ("raydrgn.run.cryodrgn_particles:open_named_particles", "raydrgn.io.sources:open_particles"),
    # Any error of it leaves out the commands that it is for.
    ("raydrgn.run.next_commands:selection_commands", "raydrgn.io.selection:counts_as_original"),
    # Any error of these is replaced by one, or by a choice, without their words.
    ("raydrgn.run.same_particles:numbers_in_file", "raydrgn.io.matching:find_numbers"),
    ("raydrgn.evaluation.truth:_simulated_numbers", "raydrgn.io.metadata:read_metadata"),
    # Any error of these becomes a warning without its words.
    ("raydrgn.comparison.sources:_by_images", "raydrgn.io.matching:find_numbers"),
    ("raydrgn.run.same_particles:numbers_in_file", "raydrgn.io.metadata:read_metadata"),
    # A run of raydrgn's has poses, or it would not have begun.
    ("raydrgn.run.cryodrgn_export:export_run", "raydrgn.io.sources:to_poses"),
    # Its results are always replaced.
    ("raydrgn.workflows.evaluate:run", "raydrgn.reporting.result_folder:ResultFolder.begin"),
    # What gives volume options has checked them; others decode with none.
    ("raydrgn.decoding.pool:DecoderPool.__init__", "raydrgn.decoding.options:VolumeOptions.check"),
    # Any error of these is reported with the command `raydrgn analyze` that makes the rest.
    ("raydrgn.workflows.analyze:analyze_finished", "raydrgn.workflows.analyze:run"),
    # Any error of these is said to be of `raydrgn train`, with its command.
    ("raydrgn.workflows.halves:_train_halves", "raydrgn.workflows.halves:_train_half"),
}
"""Uses that do not lead a message of the second to a user of the first."""


def commands():
    """Yield the words of each command, the command, and the function that it runs."""

    def walk(group, words):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, (*words, name))
            else:
                body = command.callback
                yield " ".join((*words, name)), command, f"{body.__module__}:{body.__name__}"

    yield from walk(typer.main.get_command(app), ())


COMMANDS = {
    words: ({o for p in found.params for o in (*p.opts, *p.secondary_opts)} | COMMON, entry)
    for words, found, entry in commands()
}

REQUIRED = {
    words: [set(p.opts) for p in found.params if p.required and p.param_type_name == "option"]
    for words, found, _ in commands()
}
"""Names of each option that a command cannot do without."""


class Module:
    """The functions, methods and constants of a module, and what its names mean."""

    def __init__(self, path: Path) -> None:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.tree = ast.parse(path.read_text())
        self.imports: dict[str, str] = {}
        self.nodes: dict[str, ast.AST] = {}
        self.methods: dict[str, list[str]] = defaultdict(list)
        self.bases: dict[str, list[str]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = f"{node.module}:{alias.name}"
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef):
                self.nodes[node.name] = node
            elif isinstance(node, ast.ClassDef):
                self.nodes[node.name] = ast.Pass()
                self.bases[node.name] = [b.id for b in node.bases if isinstance(b, ast.Name)]
                for item in node.body:
                    if isinstance(item, ast.FunctionDef):
                        self.nodes[f"{node.name}.{item.name}"] = item
                        self.methods[item.name].append(f"{node.name}.{item.name}")
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        self.nodes[target.id] = node.value


MODULES = {m.name: m for m in map(Module, sorted(PACKAGE.rglob("*.py")))}


def resolve(module: Module, name: str) -> str | None:
    """Return what a name in a module means: ``module:name``, or a module."""
    if name in module.nodes:
        return f"{module.name}:{name}"
    target = module.imports.get(name)
    if target is None:
        return None
    home, item = target.split(":")
    if f"{home}.{item}" in MODULES:
        return f"{home}.{item}"
    if home not in MODULES:
        return None
    other = MODULES[home]
    return f"{home}:{item}" if item in other.nodes else resolve(other, item)


@cache
def imported(home: str) -> frozenset[str]:
    """Return the modules from which a module imports."""
    module = MODULES[home]
    places = [p for n in module.imports if (p := resolve(module, n))]
    return frozenset(MODULES.keys() & {place.partition(":")[0] for place in places})


@cache
def references(place: str) -> frozenset[str]:
    """Return the functions, methods and constants that one of them uses."""
    home, _, name = place.partition(":")
    module = MODULES[home]
    node, found = module.nodes[name], set()
    if isinstance(node, ast.Pass):  # a class: what making one runs
        found |= {f"{home}:{name}.{m}" for m in ("__init__", "__post_init__", "__enter__")}
        found |= {resolve(module, base) for base in module.bases[name]}
    owner_class = name.partition(".")[0]
    near = imported(home)
    neighbours = near.union(*map(imported, near))
    for item in ast.walk(node):
        if isinstance(item, ast.Name):
            found.add(resolve(module, item.id))
        elif isinstance(item, ast.Attribute) and _is_super(item.value):
            for base in module.bases.get(owner_class, []):
                found |= {f"{p}.{item.attr}" for p in [resolve(module, base)] if p}
        elif isinstance(item, ast.Attribute):
            owner = item.value.id if isinstance(item.value, ast.Name) else ""
            target = resolve(module, owner) if owner else None
            if target in MODULES:
                found.add(resolve(MODULES[target], item.attr))
            elif target and target.split(":")[1][:1].isupper():
                found.add(f"{target}.{item.attr}")
            else:
                for other in {home} | neighbours:
                    found |= {f"{other}:{m}" for m in MODULES[other].methods[item.attr]}
    return frozenset(p for p in found if p and ":" in p and _exists(p))


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "super"


def _exists(place: str) -> bool:
    home, _, name = place.partition(":")
    return home in MODULES and home != "raydrgn.cli.command" and name in MODULES[home].nodes


def reached(command: str) -> dict[str, str]:
    """Return everything that a command can reach, and from where.

    A command without ``--address`` has the executor of this process, which starts no Ray.
    """
    options, entry = COMMANDS[command]
    settings = _settings(entry)
    found, pending = {entry: ""}, [entry]
    while pending:
        place = pending.pop()
        for other in references(place):
            owner = other.partition(":")[2].partition(".")[0]
            if owner.endswith("Settings") and owner not in settings:  # of another command
                continue
            if "--address" not in options and other.startswith(EXECUTOR):
                continue
            if other not in found and (place, other) not in NOT_TAKEN:
                found[other] = place
                pending.append(other)
    return found


def _settings(entry: str) -> set[str]:
    """Return the settings classes of a command, with their bases."""
    home, _, name = entry.partition(":")
    pending = [
        resolve(MODULES[home], node.id)
        for node in ast.walk(MODULES[home].nodes[name])
        if isinstance(node, ast.Name)
    ]
    found = set()
    while pending:
        place = pending.pop()
        if place and place.endswith("Settings") and ":" in place:
            owner, _, name = place.partition(":")
            found.add(name)
            pending += [resolve(MODULES[owner], base) for base in MODULES[owner].bases[name]]
    return found


@cache
def texts(place: str) -> tuple[tuple[int, str], ...]:
    """Return the strings of a function that have options in them, with their lines."""
    home, _, name = place.partition(":")
    node, found = MODULES[home].nodes[name], []
    docstring = ast.get_docstring(node, clean=False) if isinstance(node, ast.FunctionDef) else None
    inner, command_line = set(), _words(node)
    for item in ast.walk(node):
        if isinstance(item, ast.JoinedStr):
            parts = [p for p in ast.walk(item) if isinstance(p, ast.Constant)]
            inner |= set(parts)
            text = "".join(p.value if isinstance(p.value, str) else "" for p in parts)
        elif isinstance(item, ast.Constant) and isinstance(item.value, str) and item not in inner:
            text = item.value
        else:
            continue
        text = OTHER_COMMAND.sub("", text)
        if OPTION.fullmatch(text):
            text = f"{command_line} {text}".strip()
        if text != docstring and OPTION.search(text):
            found.append((item.lineno, text))
    return tuple(found)


def _words(node: ast.AST) -> str:
    """Return the beginning of the list of words that a function makes a command line of."""
    for item in ast.walk(node):
        if isinstance(item, ast.List):
            words = [getattr(word, "value", "") for word in item.elts[:2]]
            if words[:1] == ["raydrgn"]:
                return " ".join(words)
    return ""


def named_commands(text: str) -> set[str]:
    """Return the commands that a text names."""
    found = set()
    for words in NAMED_COMMAND.findall(text):
        parts = words.split()
        found |= {c for n in (1, 2) if (c := " ".join(parts[:n])) in COMMANDS}
    return found


def wrong_options(place: str, options: set[str]) -> list[str]:
    """Return the messages of a function with options that are neither given nor of a named command.

    Each with its line.
    """
    found = []
    for line, text in texts(place):
        known = options.union(*(COMMANDS[name][0] for name in named_commands(text)))
        if missing := sorted(set(OPTION.findall(text)) - known):
            found.append(f"{place}, line {line}: {', '.join(missing)} in {text!r}")
    return found


def incomplete(module: Module) -> list[str]:
    """Return the command lines in back quotes that name an input and lack a required option.

    One that begins with an option (`raydrgn train --mask auto`) names the option alone.
    """
    found = []
    for item in ast.walk(module.tree):
        if isinstance(item, ast.JoinedStr):
            parts = [getattr(part, "value", "") for part in item.values]
            text = "".join(part if isinstance(part, str) else "VALUE" for part in parts)
        elif isinstance(item, ast.Constant) and isinstance(item.value, str):
            text = item.value
        else:
            continue
        for line in QUOTED_COMMAND.findall(text):
            words = line.split()
            name = next((c for n in (2, 1) if (c := " ".join(words[:n])) in COMMANDS), "")
            given = words[len(name.split()) :]
            if name and given and not given[0].startswith("-"):
                lacking = [o for o in REQUIRED[name] if not o.intersection(given)]
                found += [f"{module.name}, line {item.lineno}: {line!r}"] if lacking else []
    return found


def test_command_lines_in_messages_have_all_that_they_require():
    assert not [text for module in MODULES.values() for text in incomplete(module)]


def test_what_a_command_reaches_is_found():
    found = reached("train")
    assert "raydrgn.io.stacks:find_stacks" in found
    assert "raydrgn.training.checks:check_trainable" in found
    found = reached("analyze")
    assert "raydrgn.run.reader:RunReader.finite_latents" in found
    assert "raydrgn.reporting.result_folder:ResultFolder.remedy" in found
    assert "raydrgn.training.trainer:train" not in found
    assert "raydrgn.workflows.train_settings:TrainSettings.__post_init__" not in found


def test_a_wrong_option_is_found_and_one_of_a_named_command_is_not():
    place = "raydrgn.training.checks:check_trainable"
    analyze, train = COMMANDS["analyze"][0], COMMANDS["train"][0]
    assert any("--poses in" in text for text in wrong_options(place, analyze))
    assert not wrong_options(place, train)
    place = "raydrgn.run.reader:RunReader.finite_latents"
    assert {"--lr", "--beta"} <= set(OPTION.findall(str(texts(place))))
    assert not wrong_options(place, analyze)


@pytest.mark.parametrize("command", sorted(c for c in COMMANDS if not c.startswith(COMPOSED)))
def test_every_option_in_a_message_is_one_of_the_command(command):
    places = sorted(reached(command).keys() - EXEMPT)
    wrong = [text for place in places for text in wrong_options(place, COMMANDS[command][0])]
    assert not wrong, f"raydrgn {command} has no such option:\n" + "\n".join(wrong)
