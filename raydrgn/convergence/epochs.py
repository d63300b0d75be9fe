"""Convergence of a run: what its epochs say, and the verdicts.

Epochs are embedded by independent tasks.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import orthogonal_procrustes

from raydrgn.clustering.embedding import umap_embedding
from raydrgn.convergence import criteria as convergence
from raydrgn.convergence.criteria import Finding, LatentShifts
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.volume_sets import Progress
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.remote.fanout import each
from raydrgn.remote.session import Allocation
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.metrics import read_losses
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int

SEED = 42
EMBEDDED = 50_000
"""Particles of the UMAP at most: one drawn subset for all epochs."""

LEAST_EPOCHS = 3
NAMES = "ABCDEFGHIJ"


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvergenceSettings:
    """What decides the results."""

    every: int = 5
    """Epochs between two that are embedded and decoded, counted back from the last."""

    keep_volumes: bool = False
    options: VolumeOptions = field(default_factory=VolumeOptions)
    pixel_size_angstrom: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as kept beside the results."""
        return asdict(self)


class Followed(NamedTuple):
    """A representative point through the epochs looked at."""

    correlation: Float[np.ndarray, " pairs"]
    fsc: Float[np.ndarray, "pairs shells"]
    signs: Float[np.ndarray, "epochs 2"]
    """``Noise`` of each volume."""

    slices: Float[np.ndarray, "epochs d d"]


@dataclass(kw_only=True, slots=True)
class Study:
    """All that is known of the convergence of a run."""

    epoch: int
    epochs: list[int]
    examined: list[int]
    zdim: int
    losses: list[dict[str, float]]
    shifts: LatentShifts
    subset: Int[np.ndarray, " s"]
    """Particles in the UMAP."""

    places: list[Float[np.ndarray, "s k"]]
    """UMAP of each epoch looked at, turned onto the last one's; the latents where zdim is 1."""

    rows: Int[np.ndarray, "epochs points"]
    """Representative particles."""

    counts: list[int]
    """Members of each maximum."""

    latents: Float[np.ndarray, "epochs points zdim"]
    followed: list[Followed | None] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    @property
    def is_converged(self) -> bool:
        """Tell whether every criterion that can be judged has settled."""
        return all(f.settled_from is not None for f in self.findings if f.is_judged)

    def stacked(self, name: str) -> Float[np.ndarray, "points ..."]:
        """Return one of the fields of ``Followed`` for all points that could be followed."""
        return np.stack([getattr(one, name) for one in self.followed if one is not None])

    @property
    def names(self) -> list[str]:
        """Letters of the points."""
        return list(NAMES[: len(self.counts)])

    @property
    def followed_names(self) -> list[str]:
        """Letters of the points that could be followed."""
        pairs = zip(self.names, self.followed, strict=True)
        return [name for name, one in pairs if one is not None]


def choose_epochs(run: RunReader, epoch: int | None, every: int) -> tuple[list[int], list[int]]:
    """Return all epochs up to one, and those to embed and decode.

    Raises:
        ConfigError: If ``every`` makes no sense.
        RunDirectoryError: If there are fewer than three epochs, or some are missing.
    """
    last = run.epoch(epoch)
    epochs = [number for number in run.files.epochs() if last is None or number <= last]
    if every < 1:
        raise ConfigError(f"--every must be at least 1, got {every}.")
    if last is None or len(epochs) < LEAST_EPOCHS:
        listed = ", ".join(map(str, epochs)) or "none"
        raise RunDirectoryError(
            f"{run.files.root} has too few epochs to compare ({listed}); convergence looks at the "
            f"steps from epoch to epoch and needs {LEAST_EPOCHS} at least."
        )
    missing = sorted(set(range(epochs[0], last + 1)) - set(epochs))
    if missing:
        raise RunDirectoryError(
            f"{run.files.root} lacks epochs {', '.join(map(str, missing))} of {epochs[0]} to "
            f"{last} (weights.N.pkl or z.N.pkl); convergence needs them all."
        )
    examined = epochs[::-1][::every][::-1]
    return epochs, examined if len(examined) > 1 else [epochs[0], last]


def study_latents(
    run: RunReader,
    settings: ConvergenceSettings,
    folder: ResultFolder,
    *,
    epoch: int | None = None,
    allocation: Allocation | None = None,
    progress: Progress | None = None,
) -> Study:
    """Read losses and latents, embed the epochs to look at, and find representative points."""
    epochs, examined = choose_epochs(run, epoch, settings.every)
    last = epochs[-1]
    z = run.finite_latents(last)
    shifts = shifts_of(run, epochs)
    subset = np.arange(len(z))
    if len(z) > EMBEDDED:
        chosen = np.random.default_rng(SEED).choice(len(z), EMBEDDED, replace=False)
        subset = np.sort(chosen)
    places = _places(run, examined, subset, folder, allocation, progress)
    members = [subset[near] for near in convergence.density_maxima(places[-1])]
    rows, latents = [], []
    for number in examined:
        of_epoch = run.latents(number)
        rows.append(convergence.representatives(of_epoch, members))
        latents.append(of_epoch[rows[-1]])
    return Study(
        epoch=last,
        epochs=epochs,
        examined=examined,
        zdim=z.shape[1],
        losses=losses_of(run, last),
        shifts=shifts,
        subset=subset,
        places=places,
        rows=np.stack(rows),
        counts=[len(near) for near in members],
        latents=np.stack(latents),
    )


def losses_of(run: RunReader, last: int) -> list[dict[str, float]]:
    """Return the losses of each epoch up to one."""
    return [row for row in read_losses(run.files) if row["epoch"] <= last]


def shifts_of(run: RunReader, epochs: Sequence[int]) -> LatentShifts:
    """Return how the latents of a run move.

    Raises:
        RunDirectoryError: If those of an epoch are not finite, or of other particles.
    """
    count = len(run.latents(epochs[-1]))
    return convergence.latent_shifts(epochs, lambda epoch: _latents_of(run, epoch, count))


def _latents_of(run: RunReader, epoch: int, count: int) -> Float[np.ndarray, "n zdim"]:
    z = run.latents(epoch)
    where = run.files.latents(epoch)
    if len(z) != count:
        raise RunDirectoryError(f"{where} has {len(z)} particles, but the last epoch {count}.")
    if not np.isfinite(z).all():
        raise RunDirectoryError(f"{where} has latents that are not finite: training has diverged.")
    return z


def _places(
    run: RunReader,
    examined: Sequence[int],
    subset: Int[np.ndarray, " s"],
    folder: ResultFolder,
    allocation: Allocation | None,
    progress: Progress | None,
) -> list[Float[np.ndarray, "s k"]]:
    """Return the UMAP of each epoch; one that is in the folder is taken from there."""
    if run.model.zdim == 1:
        return [run.latents(epoch)[subset] for epoch in examined]
    found: dict[int, np.ndarray] = {}
    for epoch in examined:
        if folder.has("umaps", f"umap.{epoch}.pkl"):
            [stored] = cryodrgn.read_pickles(folder.at("umaps", f"umap.{epoch}.pkl"))
            if isinstance(stored, np.ndarray) and stored.shape == (len(subset), 2):
                found[epoch] = stored
    missing = [epoch for epoch in examined if epoch not in found]
    work = _Embedding(run, subset)
    for done, outcome in enumerate(each(work, missing, allocation, load=work.load), start=1):
        if outcome.error:
            raise outcome.error
        found[outcome.item] = outcome.value
        place = folder.at("umaps", f"umap.{outcome.item}.pkl")
        cryodrgn.write_pickles(place, outcome.value)
        if progress:
            progress("UMAP", done, len(missing))
    return [_turned(found[epoch], found[examined[-1]]) for epoch in examined]


def _turned(
    places: Float[np.ndarray, "s 2"], onto: Float[np.ndarray, "s 2"]
) -> Float[np.ndarray, "s 2"]:
    """Turn and reflect an embedding onto another; UMAP leaves both open."""
    middle, target = places.mean(axis=0), onto.mean(axis=0)
    turn, _ = orthogonal_procrustes(places - middle, onto - target)
    return ((places - middle) @ turn + target).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Embedding:
    """UMAP of an epoch, as work for a task."""

    run: RunReader
    subset: Int[np.ndarray, " s"]

    def load(self, epoch: int) -> np.ndarray:
        """Read what the task needs; tasks may run where the run directory is not."""
        return self.run.latents(epoch)[self.subset]

    def __call__(self, z: Float[np.ndarray, "s zdim"]) -> Float[np.ndarray, "s 2"]:
        return umap_embedding(z, seed=SEED).astype(np.float32)


def judge_latents(run: RunReader, epochs: Sequence[int]) -> list[Finding]:
    """Return the verdicts of the criteria that need no volumes."""
    shifts = shifts_of(run, epochs)
    return _judge_latents(losses_of(run, epochs[-1]), shifts, run.model.zdim)


def _judge_latents(
    losses: Sequence[dict[str, float]], shifts: LatentShifts, zdim: int
) -> list[Finding]:
    findings = []
    if losses:
        at = [int(row["epoch"]) for row in losses]
        total = np.array([row["total"] for row in losses])
        findings.append(convergence.settled_loss(at, total))
    else:
        said = "the run has no record of its losses"
        findings.append(Finding("total loss", None, said, is_judged=False))
    steps = shifts.epochs.tolist()
    findings += [
        convergence.settled_curve("magnitude of latent shifts", steps, shifts.magnitude),
        convergence.settled_curve("dot product of latent shifts", steps, shifts.dot),
    ]
    name = "cosine distance of latent shifts"
    if zdim == 1:
        said = "says nothing in one dimension, where a step goes on or turns back"
        findings.append(Finding(name, None, said, is_judged=False))
    else:
        findings.append(convergence.settled_curve(name, steps, shifts.cosine_distance))
    return findings


def judge(study: Study) -> None:
    """Add the verdict of every criterion, and cautions."""
    study.findings = _judge_latents(study.losses, study.shifts, study.zdim)
    later = study.examined[1:]
    if not any(study.followed):
        return
    correlation, fsc = study.stacked("correlation").T, study.stacked("fsc")[..., -1].T
    for name, values, same in (
        ("correlation of volumes", correlation, convergence.SAME_CORRELATION),
        ("FSC of volumes at Nyquist", fsc, convergence.SAME_FSC),
    ):
        study.findings.append(convergence.settled_pairs(name, later, values, same=same))
    signs = np.median(study.stacked("signs"), axis=0)
    study.cautions = convergence.overtraining(study.examined, signs)
