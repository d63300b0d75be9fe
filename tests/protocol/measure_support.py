"""Which classes their own particles support: the measurement behind docs/protocol.md.

Classes of simulated particles, true ones and such as are to be refused, are back-projected and
compared with volumes of states, or of a mixture of factor analysers, as step f of ``protocol``
does. Run by hand from the repository's root, with PYTHONPATH set to it.

    python tests/protocol/measure_support.py FOLDER
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import raydrgn
from raydrgn.clustering.clusters import k_means, nearest_to_median
from raydrgn.inputs.backprojection import Backprojection, back_project
from raydrgn.inputs.options import BackprojectionOptions
from raydrgn.io.mrc import read_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.sources import open_particles
from raydrgn.protocol.class_differences import EnsembleMean
from raydrgn.protocol.support import FEWEST, ClassSupport, class_support
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.workflows import train

SEEDS = (101, 102)
"""No rule was chosen on these."""

CLUSTERS = 8
MATURE = 5
"""The state of the assembling complex that has all of its parts."""

SETS = {
    "32 px, SNR 0.1": {"num_particles": 2000, "box": 32, "snr": 0.1},
    "64 px, SNR 0.1": {"num_particles": 2500, "box": 64, "snr": 0.1},
    "64 px, SNR 0.03": {"num_particles": 2500, "box": 64, "snr": 0.03},
}


class Particles:
    """Simulated particles, their states, and maps of all of them."""

    def __init__(self, folder: Path, **options: object) -> None:
        """Simulate them where they are not there yet."""
        self.folder = folder
        if not (folder / "particles.star").exists():
            simulate(str(folder), Simulation(**options))
        source = ParticleSource(particles=str(folder / "particles.star"))
        self.table: ParticleTable = open_particles(source)
        self.labels = np.load(folder / "truth" / "labels.npy")
        paths = sorted(folder.glob("truth/vol_*.mrc"))[: self.labels.max() + 1]
        self.volumes = np.stack([read_volume(str(path))[0] for path in paths])
        self.whole = self.mapped(np.arange(len(self.labels)))

    def mapped(self, rows: np.ndarray) -> Backprojection:
        """Return maps of some particles."""
        return back_project(self.table.select(rows), BackprojectionOptions())

    def support(
        self, classes: Sequence[np.ndarray], volumes: np.ndarray, seen: Sequence[int]
    ) -> Iterator[ClassSupport]:
        """Yield the support of each class for a volume.

        Args:
            classes: Rows of the particles of each.
            volumes: Of the classes, of which the mean is made.
            seen: Which volume each class is compared with.
        """
        mean = EnsembleMean.of(self.whole, volumes, [len(rows) for rows in classes])
        for rows, number in zip(classes, seen, strict=True):
            yield class_support(
                "C", self.mapped(rows) if len(rows) >= FEWEST else None, volumes[number],
                particles=len(rows), share=len(rows) / len(self.labels), mean=mean,
            )  # fmt: skip

    def by_state(self) -> list[np.ndarray]:
        """Return the rows of each state."""
        return [np.flatnonzero(self.labels == state) for state in range(len(self.volumes))]

    def at_random(self, rows: np.ndarray, sizes: Sequence[int], seed: int) -> list[np.ndarray]:
        """Return classes of some sizes that have nothing in common."""
        mixed = np.random.default_rng(seed).permutation(rows)
        return np.split(mixed[: sum(sizes)], np.cumsum(sizes)[:-1])

    def of_mixture(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Return clusters of the latents of a mixture of factor analysers, and their volumes."""
        root = self.folder / "mfa"
        if not (root / "weights").exists():
            particles = str(self.folder / "particles.star")
            train.run(train.TrainSettings(particles=particles, out=str(root), method="mfa"))
        run = raydrgn.open_run(str(root))
        z = run.latents()
        labels = k_means(z, CLUSTERS).labels
        clusters = [np.flatnonzero(labels == k) for k in range(CLUSTERS)]
        return clusters, run.decode(z[[nearest_to_median(z, rows) for rows in clusters]])


def measure(folder: Path, seed: int) -> Iterator[tuple[str, list[ClassSupport]]]:
    """Yield each kind of classes, and their support."""
    for name, options in SETS.items():
        data = Particles(folder / f"{name}-{seed}".replace(" ", ""), seed=seed, **options)
        states = data.by_state()
        number, sizes = len(states), [len(rows) for rows in states]
        yield f"states, {name}", list(data.support(states, data.volumes, range(number)))
        for step in range(1, number):
            others = [(state + step) % number for state in range(number)]
            found = list(data.support(states, data.volumes, others))
            yield f"volumes of other states, {name}", found
        mixed = data.at_random(np.arange(len(data.labels)), sizes, seed)
        yield f"at random, {name}", list(data.support(mixed, data.volumes, range(number)))
        parts = data.at_random(states[MATURE], [len(states[MATURE]) // number] * number, seed)
        found = list(data.support(parts, data.volumes, range(number)))
        del found[MATURE]  # which it has
        yield f"of one state, {name}", found
        clusters, volumes = data.of_mixture()
        found = list(data.support(clusters, volumes, range(len(clusters))))
        yield f"clusters, {name}", found
    whole = folder / f"32px,SNR0.1-{seed}" / "truth" / f"vol_{MATURE:03}.mrc"
    for count in (2000, 8000):
        one = {"num_particles": count, "box": 32, "snr": 0.1, "maps": str(whole), "seed": seed}
        data = Particles(folder / f"one-{count}-{seed}", **one)
        clusters, volumes = data.of_mixture()
        found = list(data.support(clusters, volumes, range(len(clusters))))
        yield f"clusters of {count:,} particles of one state", found


def in_words(name: str, found: list[ClassSupport]) -> str:
    """Return the row of the table, and the classes that are judged otherwise than they should."""
    compared = [f for f in found if f.difference_half_maps is not None]
    sizes = sorted(f.particles for f in compared)
    half_maps = sorted(f.difference_half_maps for f in compared)
    explained = sorted(f.difference_explained for f in compared)
    supported = sum(f.is_supported for f in found)
    row = (
        f"| {name} | {sizes[0]}–{sizes[-1]} | {half_maps[0]:.2f}–{half_maps[-1]:.2f} | "
        f"{explained[0]:.2f}–{explained[-1]:.2f} | {supported} of {len(found)} |\n"
    )
    is_true = name.startswith(("states", "clusters, "))
    return row + "".join(f"    {f}\n" for f in found if f.is_supported != is_true)


def main() -> None:
    """Write a row for each kind of classes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    rows: dict[str, list[ClassSupport]] = {}
    for seed in arguments.seeds:
        for name, found in measure(arguments.folder, seed):
            rows.setdefault(name, []).extend(found)
    for name, found in rows.items():
        sys.stdout.write(in_words(name, found))


if __name__ == "__main__":
    main()
