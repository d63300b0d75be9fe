"""Mixture of factor analysers beside the autoencoder: the measurement behind docs/mfa-measured.md.

Sets of 6,000 images of 32 px, simulated with seeds that no setting was chosen on, are fitted with
one thread by ``--method mfa``, by the recipe ``fast`` (128 × 3, 40 epochs), by ``fast`` of 24
epochs from the mixture (``init``, and ``init-refined`` with its poses, whose seconds are those of
both fits), and by the recipe ``protocol`` (128 × 3, 50 epochs). Run by hand from
the repository's root, with PYTHONPATH set to it and to tests/training; what is measured already is
kept in the folder, so that it goes on. The rows of 64 px are made in a folder of their own with
``--box 64 --width 256``.

    nice -n 10 python tests/mfa/measure_methods.py FOLDER --maps "…/occupancy/vol_*.mrc"
"""

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import numba
import numpy as np
import torch

import plain
import plain_em
from raydrgn.evaluation.evaluation import evaluate
from raydrgn.evaluation.truth import read_truth
from raydrgn.io.particle_source import ParticleSource
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.training.prepare_run import RunRequest, begin

SEEDS = (101, 102, 103)
ERRORS = {
    "contrast_sd": 0.15,
    "angle_error_deg": 2.0,
    "shift_error_px": 0.25,
    "defocus_error_angstrom": 300.0,
    "junk": 0.2,
}
KINDS = {
    "ribosome": {"maps": True},
    "assembly": {"phantom": "assembly"},
    "hinge": {"phantom": "hinge"},
    "swing": {"phantom": "swing"},
}
SETS = {
    f"{kind} SNR {snr}{', errors' if errors else ''}": {**options, "snr": snr, **errors}
    for snr in (0.1, 0.03, 0.01)
    for errors in ({}, ERRORS)
    for kind, options in KINDS.items()
}
NETWORK = {
    "train.epochs": 40,
    "resources.cpus": 1,
}
INIT_EPOCHS = 24
PLAIN_MFA = {
    "mfa__contrast": False,
    "mfa__null_class": False,
    "mfa__shifts": False,
    "mfa__rotations": False,
}


def measure(folder: Path, method: str, width: int) -> dict:
    """Fit a set by a method, with networks of some width, and compare with the truth."""
    star, root = folder / "particles.star", folder / method
    starts_from_mfa = method in ("init", "init-refined")
    is_network = starts_from_mfa or method in ("fast", "protocol")
    if is_network:
        recipe = "protocol" if method == "protocol" else None
        values = NETWORK | {"model.encoder_width": width, "model.decoder_width": width}
        values |= {"train.epochs": 50} if recipe else {}
        if starts_from_mfa:
            values |= {"train.epochs": INIT_EPOCHS, "train.init": str(folder / "mfa")}
        poses = str(folder / "mfa") if method == "init-refined" else None
        source = ParticleSource(particles=str(star))
        request = RunRequest(
            root=str(root), source=source, recipe=recipe, values=values, poses_from=poses
        )
        run = begin(request)
    else:
        run = plain_em.prepare(star, root, **(PLAIN_MFA if method == "mfa-plain" else {}))
    began = time.process_time()
    (plain.fit if is_network else plain_em.fit)(run)
    seconds = time.process_time() - began
    if starts_from_mfa:
        seconds += json.loads((folder / "mfa.json").read_text())["seconds"]
    opened = open_run(str(root))
    found = evaluate(opened, str(folder / "truth"))
    truth = read_truth(str(folder / "truth"), opened, num_particles=len(run.table))
    rare = min(found.separation.by_state, key=lambda state: state.share)
    row = {
        "fsc": found.fsc,
        "masked": found.fsc_masked,
        "mean_map": found.fsc_of_mean,
        "neighbours": found.separation.neighbour_accuracy,
        "motion": found.separation.motion_order,
        "rare_recall": rare.recall,
        "rare_precision": rare.precision,
        "seconds": seconds,
    }
    if not is_network and truth.is_junk.any():
        null = opened.estimates(opened.epoch(None))["null_probability"] > 0.5
        both = (null & truth.is_junk).sum()
        row |= {
            "junk_recall": both / truth.is_junk.sum(),
            "junk_precision": both / max(null.sum(), 1),
        }
    return {k: None if v is None else round(float(v), 4) for k, v in row.items()}


def show(*words: object) -> None:
    """Write a line to the terminal."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--maps", required=True)
    parser.add_argument("--methods", default="mfa,mfa-plain,fast,init,protocol")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="NAME")
    parser.add_argument("--box", type=int, default=32)
    parser.add_argument("--width", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    rows = []
    for method in arguments.methods.split(","):
        for name in arguments.sets:
            options = SETS[name]
            for seed in arguments.seeds:
                folder = arguments.folder / f"{name.replace(' ', '_').replace(',', '')}-{seed}"
                given = {k: v for k, v in options.items() if k != "maps"} | {"box": arguments.box}
                if not (folder / "particles.star").exists():
                    maps = arguments.maps if options.get("maps") else None
                    simulate(str(folder), Simulation(seed=seed, maps=maps, **given))
                kept = folder / f"{method}.json"
                if not kept.exists():
                    kept.write_text(json.dumps(measure(folder, method, arguments.width)))
                    show(name, seed, method, kept.read_text())
                row = json.loads(kept.read_text())
                rows.append({"set": name, "seed": seed, "method": method, **row})
    names = list(dict.fromkeys(key for row in rows for key in row))
    with (arguments.folder / "methods.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerows(rows)
    for name in arguments.sets:
        for method in arguments.methods.split(","):
            of = [row for row in rows if (row["set"], row["method"]) == (name, method)]
            means = {
                key: round(float(np.mean([row[key] for row in of])), 3)
                for key in names[3:]
                if all(row.get(key) is not None for row in of)
            }
            show(name, method, means)


if __name__ == "__main__":
    main()
