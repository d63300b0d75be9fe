"""Trials of all commands but training: a machine, or a worker, is lost while they work.

Each command runs twice with the same words, first undisturbed. What it writes must be equal to the
byte.
"""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from faults.machines import Machines
from faults.trial import Result, Trial, differences, running
from finished_run import make_run
from phantoms import images_of, table_of, write_mrc
from subunit_files import ball, write_subunits

WORKERS = 5
MACHINES, CPUS = 3, 2  # one CPU more than workers: a lost worker finds a place elsewhere, or none

NOTICED = "a worker was lost"
RECOVERED = "the work of lost workers has been done again"

Disturb = Callable[[Machines, object], None]
"""Does something to a machine on which a worker is at work."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command, what it reads, and how it is known to have begun."""

    command: str
    prepare: Callable[[Path], list[str]]
    """Writes the inputs into a folder; returns the words but for the output."""

    out: list[str]
    """Words that name the output, with ``OUT`` for its folder."""

    began: Callable[[Path], bool] = lambda out: True
    """Whether enough of the output is there."""


_shared = ExitStack()
"""The cluster of all trials, while there is one: it takes a minute to start on a busy machine."""


@cache
def shared_machines() -> Machines:
    """Return the cluster of all trials."""
    return _shared.enter_context(Machines(MACHINES, cpus=CPUS))


def end_machines() -> None:
    """End the cluster of all trials."""
    _shared.close()
    shared_machines.cache_clear()


def run_case(case: Case, disturb: Disturb, folder: Path) -> Result:
    """Run a command undisturbed and disturbed; compare what it has written."""
    machines = shared_machines()
    machines.restore(MACHINES)
    return disturbed(case, disturb, machines, folder)


def disturbed(
    case: Case, disturb: Disturb, machines: Machines, folder: Path, *, here: bool = False
) -> Result:
    """Run a command undisturbed, on the cluster or without Ray, and disturbed; compare outputs."""
    inputs, out, reference = folder / "in", folder / "out", folder / "undisturbed"
    inputs.mkdir()
    words = case.prepare(inputs)
    words += [word.replace("OUT", str(out)) for word in case.out]
    address, workers = ("", "1") if here else (machines.address, str(WORKERS))
    with running([*words, "--workers", workers], address=address) as command:
        assert command.wait() == 0, command.text
    shutil.move(out, reference)
    with running([*words, "--workers", str(WORKERS)], address=machines.address) as command:
        [victim, *_] = command.wait_until(lambda: case.began(out) and machines.busy())
        when = time.monotonic()
        disturb(machines, victim)
        code = command.wait()
        lost = differences(reference, out)
        return Result(
            noticed=command.seconds_until(NOTICED, after=when),
            recovered=command.seconds_until(RECOVERED, after=when),
            lost=f"exit code {code}: {command.text}" if code else ", ".join(lost),
        )


# Inputs -------------------------------------------------------------------------------------------


def run_directory(folder: Path, *, particles: int = 480, box: int = 48) -> str:
    """Write a run of random weights, of four epochs with the same results; return it."""
    latents = np.random.default_rng(0).normal(size=(particles, 2))
    root = folder / "run"
    make_run(root, latents, box=box)
    for epoch in (2, 3, 4):
        for name in ("weights", "z"):
            shutil.copy(root / f"{name}.1.pkl", root / f"{name}.{epoch}.pkl")
    rows = [
        {"done": True, "epoch": epoch, "total": 1.0, "reconstruction": 0.9, "kl": 0.1}
        for epoch in (1, 2, 3, 4)
    ]
    (root / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(root)


def volumes(folder: Path) -> list[str]:
    """Return the words that decode a volume for every particle."""
    root = run_directory(folder)
    return ["volumes", root, "--z-file", f"{root}/z.4.pkl"]


def of_run(command: str, *options: str) -> Callable[[Path], list[str]]:
    """Return a maker of the words of a command of a run."""
    return lambda folder: [*command.split(), run_directory(folder), *options]


def occupancy(*words: str) -> Callable[[Path], list[str]]:
    """Return a maker of the words that score volumes of a run."""

    def prepare(folder: Path) -> list[str]:
        masks = write_subunits(folder, balls=_balls(48))
        return ["occupancy", "score", run_directory(folder), "--masks", str(masks), *words]

    return prepare


def occupancy_of_maps(folder: Path) -> list[str]:
    """Return the words that score maps of a folder."""
    masks = write_subunits(folder, balls=_balls(64))
    maps = folder / "maps"
    maps.mkdir()
    noise = images_of(64, box=64)
    for number in range(400):
        volume = np.roll(noise, number, axis=0)
        write_mrc(maps / f"vol_{number:03d}.mrc", volume, pixel_size=2.0, volume=True)
    return ["occupancy", "score", "--volumes", str(maps), "--masks", str(masks)]


def _balls(box: int) -> dict[str, np.ndarray]:
    centres = {"a": (1, 1, 1), "b": (3, 1, 2), "c": (2, 3, 3)}
    return {
        name: ball([x * box / 4 for x in centre], radius=box / 5, box=box)
        for name, centre in centres.items()
    }


def particles(count: int, *, box: int) -> Callable[[Path], Path]:
    """Return a maker of a particle table with images of noise."""

    def prepare(folder: Path) -> Path:
        stack = write_mrc(folder / "stack.mrcs", images_of(count, box=box), pixel_size=1.5)
        path = folder / "particles.parquet"
        table_of(count, stacks=(stack,), box=box).write(str(path))
        return path

    return prepare


def backproject(folder: Path, *, count: int = 40_000, box: int = 48) -> list[str]:
    """Return the words that back-project images of noise."""
    return ["backproject", str(particles(count, box=box)(folder))]


def downsample(folder: Path) -> list[str]:
    """Return the words that downsample images of noise into many stacks."""
    path = particles(24_000, box=96)(folder)
    return ["downsample", str(path), "-D", "64", "--chunk", "400"]


def files(pattern: str, count: int) -> Callable[[Path], bool]:
    """Return whether a folder has some files of a kind, as a condition."""
    return lambda out: len(list(out.rglob(pattern))) >= count


# Faults -------------------------------------------------------------------------------------------


def lose_all_but_new(machines: Machines, _: object) -> None:
    """Lose all machines, one after the other; another one joins after that."""
    for node in list(machines.nodes):
        machines.kill(node)
    machines.add()


CASES = [
    Case(
        command="volumes",
        prepare=volumes,
        out=["-o", "OUT"],
        began=files("vol_*.mrc", 40),
    ),
    Case(command="occupancy score --all", prepare=occupancy("--all"), out=["-o", "OUT"]),
    Case(command="occupancy score --volumes", prepare=occupancy_of_maps, out=["-o", "OUT"]),
    Case(
        command="analyze",
        prepare=of_run("analyze", "--ksample", "80", "--skip-umap"),
        out=["-o", "OUT"],
        began=files("vol_*.mrc", 20),
    ),
    Case(
        command="landscape",
        prepare=of_run("landscape", "--ksample", "200", "-M", "4"),
        out=["-o", "OUT"],
    ),
    Case(
        command="traverse pc",
        prepare=of_run("traverse pc", "-n", "80"),
        out=["-o", "OUT"],
        began=files("vol_*.mrc", 20),
    ),
    Case(
        command="convergence",
        prepare=of_run("convergence", "--every", "1"),
        out=["-o", "OUT"],
    ),
    Case(
        command="downsample",
        prepare=downsample,
        out=["-o", "OUT/small.txt"],
        began=files("*.mrcs", 4),
    ),
    Case(command="backproject", prepare=backproject, out=["-o", "OUT"]),
]


def trial(case: Case, fault: str, disturb: Disturb) -> Trial:
    """Return a trial of a fault of a command."""
    name = f"{case.command.replace(' --', '-').replace(' ', '-')}-{fault.split()[-1]}"
    return Trial(
        name=name,
        fault=fault,
        command=case.command,
        run=lambda folder: run_case(case, disturb, folder),
    )


TRIALS = [
    *(trial(case, "a machine is lost", Machines.kill) for case in CASES),
    trial(CASES[0], "a worker is killed", Machines.kill_worker),
    trial(CASES[0], "a machine is frozen", Machines.freeze),
    trial(CASES[0], "all machines are lost, another joins", lose_all_but_new),
    trial(CASES[-1], "all machines are lost, another joins", lose_all_but_new),
]
