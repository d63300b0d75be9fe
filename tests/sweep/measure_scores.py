"""How well scores without a truth rank settings: the measurement behind docs/sweeps.md.

Sixteen settings, drawn at random, are trained on each of four simulated sets: ribosome maps and the
built-in phantom, SNR 0.03 and 0.1. Every score is compared with the true per-image FSC of the same
runs by Spearman's rank correlation. Run by hand, from the repository's root, with PYTHONPATH set to
it and to tests/training; what is measured already is kept in the folder, so that it goes on.

    nice -n 19 python tests/sweep/measure_scores.py FOLDER --maps "…/occupancy/vol_*.mrc"
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from plain import fit
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool
from raydrgn.evaluation.evaluation import IMAGES, fsc_curves, mean_fsc
from raydrgn.evaluation.truth import read_truth
from raydrgn.fourier.transforms import hartley_from_disc
from raydrgn.inputs.resolution import density_mask
from raydrgn.io.particle_source import ParticleSource
from raydrgn.run.metrics import epoch_rows
from raydrgn.run.reader import open_run
from raydrgn.run.writer import RunWriter
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.sweep.consensus import consensus_map
from raydrgn.sweep.half_sets import agreement
from raydrgn.sweep.held_out import HeldOutImages
from raydrgn.sweep.networks import read_network
from raydrgn.training.prepare_run import PreparedRun, RunRequest, begin

SETS = [(kind, snr) for kind in ("ribosome", "phantom") for snr in (0.1, 0.03)]
PARTICLES, BOX, EPOCHS, SETTINGS = 4000, 32, 12, 16
SEARCH_STEPS = 8

BASE = {
    "train.epochs": EPOCHS,
    "train.held_out_fraction": 0.2,
    "train.warmup_steps": 100,
    "resources.cpus": 1,
    "train.checkpoint_minutes": 60.0,
}


def settings(number: int) -> dict:
    """Return a setting; the same for all sets."""
    draw = np.random.default_rng((5, number))
    return {
        "model.zdim": int(draw.choice([1, 2, 4, 8, 16])),
        "model.decoder_width": int(draw.choice([32, 64])),
        "model.encoder_width": int(draw.choice([32, 64])),
        "train.learning_rate": float(10 ** draw.uniform(-3.2, -2)),
        "train.beta": float(10 ** draw.uniform(-2.5, 1)),
    }


class Encoded:
    """Latents by the encoder, the unseen half set to zero and the other multiplied."""

    def __init__(self, vae, lattice, factor):
        self.vae, self.lattice, self.factor = vae, lattice, factor

    def latent(self, batch, ctf, seen):
        kept = batch.coefficients * (torch.sign(ctf) * seen * self.factor)[..., None]
        return self.vae.encoder.encode(hartley_from_disc(kept))[0]

    @torch.no_grad()
    def __call__(self, batch, ctf, seen):
        return self.decode(batch, ctf, self.latent(batch, ctf, seen))

    def decode(self, batch, ctf, z):
        return ctf[..., None] * self.vae.decoder.values(self.lattice.plane @ batch.rotations, z)


class Searched(Encoded):
    """Latents by descent on the error of the seen half from the encoder's.

    The prior is the normal distribution of the training particles' latents.
    """

    def __init__(self, vae, lattice, factor, latents):
        super().__init__(vae, lattice, factor)
        centre = latents.mean(0)
        spread = np.cov(latents.T).reshape(latents.shape[1], -1)
        spread += 1e-6 * np.trace(spread) / len(spread) * np.eye(len(spread)) + 1e-12
        self.centre = torch.from_numpy(centre).float()
        self.root = torch.from_numpy(np.linalg.cholesky(spread)).float()

    def __call__(self, batch, ctf, seen):
        with torch.no_grad():
            z = self.latent(batch, ctf, seen)
            start = torch.linalg.solve_triangular(
                self.root, (z - self.centre).T, upper=False
            ).T.clamp(-3, 3)
            noise = (batch.coefficients.square().sum(-1) * seen).sum() / seen.sum()
        white = start.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([white], lr=0.2)
        for _ in range(SEARCH_STEPS):
            optimiser.zero_grad()
            made = self.decode(batch, ctf, self.centre + white @ self.root.T)
            misfit = ((made - batch.coefficients).square().sum(-1) * seen).sum() / noise
            (misfit + 0.5 * white.square().sum()).backward()
            optimiser.step()
        with torch.no_grad():
            return self.decode(batch, ctf, self.centre + white @ self.root.T)


@cache
def shared(folder: str) -> tuple[HeldOutImages, np.ndarray, np.ndarray]:
    """Return the held-out images of a set, the errors of one map, and a mask."""
    run = prepared(folder, "consensus", {})
    images = HeldOutImages.prepare(run.held_out, run.config)
    volume = consensus_map(run.table, run.config)
    mask = density_mask(volume, pixel_size_angstrom=run.config.pixel_size_angstrom)
    return images, images.errors_of_map(volume), mask


def prepared(folder: str, name: str, values: dict) -> PreparedRun:
    """Prepare a run on the particles of a set."""
    return begin(
        RunRequest(
            root=str(Path(folder, name)),
            source=ParticleSource(particles=str(Path(folder, "particles.star"))),
            values=BASE | values,
        )
    )


def train(run: PreparedRun) -> None:
    """Write and train a run in this process."""
    config, particles = run.config.to_yaml().encode(), run.table.to_bytes()
    RunWriter(run.root, num_particles=len(run.table)).begin(config, particles)
    fit(run)


def true_fsc(root: str, truth: Path) -> tuple[float, float]:
    """Return the true per-image FSC of a run as `evaluate` measures it, and of the mean volume."""
    run = open_run(root)
    z = run.latents(EPOCHS)
    known = read_truth(str(truth), run, num_particles=len(z))
    rows = np.arange(len(z))[:: max(len(z) // IMAGES, 1)]
    with DecoderPool(run.decoder(EPOCHS), VolumeOptions()) as pool:
        decoded = pool.volumes(z[rows])
    true = known.volumes[known.shown[rows]]
    mean = np.broadcast_to(known.mean_volume(), true.shape)
    return mean_fsc(fsc_curves(decoded, true)), mean_fsc(fsc_curves(mean, true))


def measure(folder: str, number: int) -> None:
    """Train a setting, and write its scores and its true FSC."""
    out = Path(folder, f"{number}.json")
    if out.exists():
        return
    torch.set_num_threads(1)
    images, errors_of_map, _ = shared(folder)
    began = time.process_time()
    run = prepared(folder, f"run-{number}", settings(number))
    train(run)
    seconds = time.process_time() - began
    network = read_network(run.root, EPOCHS)
    latents = open_run(run.root).latents(EPOCHS)
    last = epoch_rows(f"{run.root}/metrics.jsonl")[-1]
    fsc, fsc_of_mean = true_fsc(run.root, Path(folder, "truth"))
    found = {"fsc": fsc, "fsc_of_mean": fsc_of_mean, "seconds": seconds}
    found |= {"loss": -last["total"], "reconstruction": -last["reconstruction"]}
    methods = {
        "encoder, half to zero": Encoded(network, images.lattice, 1.0),
        "encoder, half times √2": Encoded(network, images.lattice, 2**0.5),
        "encoder, half times 2": Encoded(network, images.lattice, 2.0),
        "search": Searched(network, images.lattice, 2.0, latents),
    }
    for name, predict in methods.items():
        gains = (errors_of_map - images.errors(predict)) / errors_of_map.mean()
        found[name] = float(gains.mean())
        found[f"{name}, SE"] = float(gains.std() / len(gains) ** 0.5)
    out.write_text(json.dumps(settings(number) | found))


def measure_halves(folder: str, number: int) -> None:
    """Train a setting on both halves of the particles, and write their agreement."""
    out = Path(folder, f"{number}.halves.json")
    if out.exists():
        return
    torch.set_num_threads(1)
    images, _, mask = shared(folder)
    networks = []
    for half in (0, 1):
        run = prepared(folder, f"run-{number}-half-{half + 1}", settings(number))
        table = run.table.select(np.arange(half, len(run.table), 2))
        train(dataclasses.replace(run, table=table))
        networks.append(read_network(run.root, EPOCHS))
    values = agreement((networks[0], networks[1]), images, mask)
    out.write_text(json.dumps({"halves": float(values.mean())}))


def simulated(folder: Path, kind: str, snr: float, maps: str) -> str:
    """Make a set if it is not there; return its folder."""
    place = folder / f"{kind}-{snr}"
    if not (place / "particles.star").exists():
        chosen = {"maps": maps} if kind == "ribosome" else {"phantom": "assembly"}
        simulate(
            str(place), Simulation(num_particles=PARTICLES, box=BOX, snr=snr, seed=3, **chosen)
        )
    return str(place)


def read(folder: str) -> list[dict]:
    """Return what is measured of a set."""
    rows = []
    for number in range(SETTINGS):
        path, halves = Path(folder, f"{number}.json"), Path(folder, f"{number}.halves.json")
        if path.exists():
            rows.append(json.loads(path.read_text()))
            if halves.exists():
                rows[-1] |= json.loads(halves.read_text())
    return rows


def table(folders: Sequence[str]) -> Iterable[str]:
    """Yield the lines of the table: Spearman's correlation of each score with the true FSC."""
    sets = {Path(folder).name: read(folder) for folder in folders}
    scores = ["encoder, half to zero", "encoder, half times √2", "encoder, half times 2"]
    scores += ["search", "halves", "reconstruction", "loss"]
    yield "| score | " + " | ".join(sets) + " |"
    yield "|---|" + "---|" * len(sets)
    for score in scores:
        cells = []
        for rows in sets.values():
            known = [row for row in rows if score in row]
            if len(known) < 4:
                cells.append("–")
                continue
            value = spearmanr([r["fsc"] for r in known], [r[score] for r in known]).statistic
            cells.append(f"{value:.2f} ({len(known)})")
        yield f"| {score} | " + " | ".join(cells) + " |"
    for name, rows in sets.items():
        if rows:
            fsc = [row["fsc"] for row in rows]
            seconds = sum(row["seconds"] for row in rows)
            yield (
                f"{name}: FSC {min(fsc):.3f} to {max(fsc):.3f}; of the mean volume "
                f"{rows[0]['fsc_of_mean']:.3f}; {seconds:.0f} CPU s"
            )


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--maps", required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only-table", action="store_true")
    given = parser.parse_args()
    folders = [simulated(given.folder, kind, snr, given.maps) for kind, snr in SETS]
    if not given.only_table:
        with ProcessPoolExecutor(given.processes) as pool:
            for work in (measure, measure_halves):
                jobs = [(f, n) for f in folders for n in range(SETTINGS)]
                list(pool.map(work, *zip(*jobs, strict=True)))
    print("\n".join(table(folders)))  # noqa: T201


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
