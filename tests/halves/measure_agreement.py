"""How far differences between states are reproduced: the measurement behind docs/halves.md.

Sets of 3,000 images of 32 px in several states, and in one, are trained on by ``--method mfa``
(8 epochs) and by the autoencoder (10 epochs of the recipe ``fast``), and compared by ``halves``, by
the commands of a user. Run by hand; what is measured already is kept in the folder, so that it goes
on.

    nice -n 10 python tests/halves/measure_agreement.py FOLDER
"""

import argparse
import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

SEEDS = (207, 208, 209)
"""The limit of the autoencoder was chosen on 201 to 206."""

SNRS = (0.1, 0.03)
METHODS = {"mfa": ("--method", "mfa", "--epochs", "8"), "vae": ("--epochs", "10")}
WHOLE = "vol_005.mrc"
"""The state of the assembling complex that has all of its parts."""


def raydrgn(*words: object) -> None:
    """Run a command; its messages are shown if it fails."""
    subprocess.run([sys.executable, "-m", "raydrgn", *map(str, words)], check=True)


def particles(folder: Path, *, one_state: bool, snr: float, seed: int) -> Path:
    """Return the particle file of a set, simulated where it is not there."""
    several = folder / f"several-{snr}-{seed}"
    place = folder / f"one-{snr}-{seed}" if one_state else several
    if not (place / "particles.star").exists():
        states = ("--maps", several / "truth" / WHOLE) if one_state else ()
        size = ("--particles", 3000, "--box", 32, "--snr", snr, "--seed", seed)
        raydrgn("simulate", place, *size, *states)
    return place / "particles.star"


def measure(star: Path, method: str, seed: int) -> list[dict[str, str]]:
    """Return what ``halves`` finds of each state."""
    run = star.parent / method
    states = run / "halves.1" / "states.csv"
    if not states.exists():
        one = ("--workers", 1, "--cpus-per-worker", 1)
        raydrgn("train", star, "-o", run, *METHODS[method], "--seed", seed, *one)
        raydrgn("halves", run, "-o", states.parent, *one)
    with states.open(newline="") as rows:
        return list(csv.DictReader(rows))


def main() -> None:
    """Measure what is missing, and print a row for each kind of set and method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    folder = arguments.folder
    for one_state in (False, True):
        for snr in SNRS:
            for method in METHODS:
                found = []
                for seed in arguments.seeds:
                    star = particles(folder, one_state=one_state, snr=snr, seed=seed)
                    found += measure(star, method, seed)
                ranges = {
                    name: (min(values), max(values))
                    for name in ("difference, % of density", "correlation of differences")
                    if (values := [float(state[name]) for state in found])
                }
                judged = dict(Counter(state["judgement"] for state in found))
                sys.stdout.write(f"{one_state=} {snr=} {method} {ranges} {judged}\n")


if __name__ == "__main__":
    main()
