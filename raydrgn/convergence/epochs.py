"""Latents and losses through the epochs of a run; epochs are embedded by independent tasks."""

import json
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import orthogonal_procrustes

from raydrgn.clustering.embedding import umap_embedding
from raydrgn.convergence import criteria
from raydrgn.convergence.criteria import Finding, LatentShifts
from raydrgn.convergence.point_comparison import PointComparison
from raydrgn.errors import RunDirectoryError
from raydrgn.io import cryodrgn, storage
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.identity import read_record
from raydrgn.run.metrics import read_losses
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int
from raydrgn.wording import counted

log = logging.getLogger(__name__)

SEED = 42
MAX_EMBEDDED = 50_000
"""Particles of the UMAP at most: one random subset for all epochs."""

MIN_EPOCHS = 3
JUDGED_PAIRS = 3
"""Pairs of epochs by which volumes are judged at least."""

NAMES = "ABCDEFGHIJ"
EPOCHS = "epochs.json"
"""Identity of each epoch that the folder has results of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Convergence:
    """Latents, losses and volumes of a run through its epochs, and whether they have converged."""

    epoch: int
    """The last epoch."""

    epochs: list[int]
    """All epochs up to it."""

    examined: list[int]
    """Epochs that are embedded and decoded."""

    losses: list[dict[str, float]]
    shifts: LatentShifts
    subset: Int[np.ndarray, " s"]
    """Particles in the embeddings."""

    embeddings: list[Float[np.ndarray, "s k"]]
    """UMAP of each examined epoch, turned onto that of the last; the latents where zdim is 1."""

    rows: Int[np.ndarray, "epochs points"]
    """Representative particles."""

    original: Int[np.ndarray, "epochs points"] | None
    """Their numbers in the set before any selection; None if the selection is not known."""

    counts: list[int]
    """Members of each maximum of the density."""

    latents: Float[np.ndarray, "epochs points zdim"]
    comparisons: list[PointComparison | None] = field(default_factory=list)
    """Volumes of each point through the epochs; None where decoding failed."""

    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """Overfitting warnings."""

    commands: list[str] = field(default_factory=list)
    """What usually follows from the verdict."""

    @property
    def before_overfitting(self) -> int:
        """The examined epoch before the rise of an overfitting warning."""
        return self.examined[-criteria.OVERFITTING_EPOCHS]

    @property
    def zdim(self) -> int:
        """Dimensions of the latents."""
        return self.latents.shape[-1]

    @property
    def is_converged(self) -> bool:
        """Whether every criterion that applies has converged."""
        return not any(finding.is_open for finding in self.findings)

    @property
    def names(self) -> list[str]:
        """Letters of the points."""
        return list(NAMES[: len(self.counts)])

    @property
    def has_volumes(self) -> bool:
        """Whether the volumes of any point could be compared."""
        return any(comparison is not None for comparison in self.comparisons)

    @property
    def compared_names(self) -> list[str]:
        """Letters of the points whose volumes could be compared."""
        pairs = zip(self.names, self.comparisons, strict=True)
        return [name for name, comparison in pairs if comparison is not None]

    def stacked(self, name: str) -> Float[np.ndarray, "points ..."]:
        """Return one of the fields of ``PointComparison`` for all points that have one."""
        return np.stack([getattr(made, name) for made in self.comparisons if made is not None])


def choose_epochs(run: RunReader, epoch: int | None, every: int) -> tuple[list[int], list[int]]:
    """Return all epochs up to one, and those to embed and decode, counted back from it.

    Two of the latter are at least ``every`` epochs apart, and all have weights: those of other
    epochs may have been deleted.

    Raises:
        RunDirectoryError: If there are fewer than three epochs, or some are missing.
    """
    last = run.epoch(epoch)
    epochs = [number for number in run.files.latent_epochs() if last is None or number <= last]
    if last is None or len(epochs) < MIN_EPOCHS:
        listed = ", ".join(map(str, epochs)) or "none"
        raise RunDirectoryError(
            f"{run.files.root} has too few epochs to compare ({listed}); convergence compares "
            f"latents from epoch to epoch and needs at least {MIN_EPOCHS} epochs."
        )
    missing = sorted(set(range(epochs[0], last + 1)) - set(epochs))
    if missing:
        raise RunDirectoryError(
            f"{run.files.root} lacks epochs {', '.join(map(str, missing))} of {epochs[0]} to "
            f"{last} (z.N.pkl); convergence needs all of them."
        )
    with_weights = [number for number in run.files.epochs() if number <= last]
    if len(with_weights) < 2:
        raise RunDirectoryError(
            f"{run.files.root} has the weights of one epoch only ({last}); convergence compares "
            "volumes of at least two epochs. Weights that were deleted (`raydrgn clean`) do not "
            f"come back: train on, to more than {last} epochs (raydrgn train -o "
            f"{shlex.quote(run.files.root)} --resume --epochs N), or train again."
        )
    examined = _apart(with_weights, every)
    if len(examined) <= JUDGED_PAIRS:
        closer = range(every - 1, 0, -1)
        enough = next((n for n in closer if len(_apart(with_weights, n)) > JUDGED_PAIRS), None)
        if enough is not None:
            log.warning(
                "--every %d compares the volumes of %s of epochs, too few to judge; --every %d "
                "compares those of epochs %s",
                every,
                counted(max(len(examined) - 1, 1), "pair"),
                enough,
                ", ".join(map(str, _apart(with_weights, enough))),
            )
    return epochs, examined if len(examined) > 1 else [with_weights[0], last]


def _apart(epochs: Sequence[int], every: int) -> list[int]:
    """Return epochs that are at least ``every`` apart, counted back from the last."""
    found = [epochs[-1]]
    for number in reversed(epochs):
        if found[0] - number >= every:
            found.insert(0, number)
    return found


def check_epochs(run: RunReader, examined: Sequence[int], folder: ResultFolder) -> None:
    """Refuse a folder with results of other weights or latents of an examined epoch.

    The folder's own identity is that of the last epoch; embeddings and volumes of the epochs before
    are kept in it too.

    Raises:
        RunDirectoryError: Naming the epoch.
    """
    identities = {epoch: run.identity(epoch) for epoch in examined}
    if folder.has(EPOCHS):
        found = read_record(folder.at(EPOCHS))
        if sorted(map(int, found)) != list(examined):
            lost = sorted(set(map(int, found)) - set(run.files.epochs()))
            if lost:
                raise RunDirectoryError(
                    f"{folder.uri} has results of epochs {', '.join(found)}, and the weights of "
                    f"{', '.join(map(str, lost))} were deleted since. See "
                    f"{folder.at('report.html')}, or compare epochs "
                    f"{', '.join(map(str, examined))} in another folder (--out)."
                )
            raise RunDirectoryError(
                f"{folder.uri} has results of the volumes of epochs {', '.join(found)}, not of "
                f"{', '.join(map(str, examined))}. {folder.remedy}"
            )
        for epoch, identity in identities.items():
            difference = identity.difference(found.get(str(epoch), {}))
            if difference:
                raise RunDirectoryError(
                    f"{folder.uri} has results of {difference}, where those of epoch {epoch} are "
                    f"needed. {folder.remedy}"
                )
        return
    record = {str(epoch): identity.to_dict() for epoch, identity in identities.items()}
    storage.write_bytes(folder.at(EPOCHS), json.dumps(record, indent=1).encode())


def compare_epochs(
    run: RunReader,
    epochs: Sequence[int],
    examined: Sequence[int],
    folder: ResultFolder,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> Convergence:
    """Read losses and latents, embed the examined epochs, and find representative particles."""
    last = epochs[-1]
    z = run.finite_latents(last)
    subset = np.arange(len(z))
    if len(z) > MAX_EMBEDDED:
        chosen = np.random.default_rng(SEED).choice(len(z), MAX_EMBEDDED, replace=False)
        subset = np.sort(chosen)
    shifts = latent_shifts(run, epochs)
    embeddings = _embeddings(run, examined, subset, folder, executor, progress)
    members = [subset[near] for near in criteria.density_maxima(embeddings[-1])]
    rows, latents = [], []
    for epoch in examined:
        of_epoch = run.latents(epoch)
        rows.append(criteria.representatives(of_epoch, members))
        latents.append(of_epoch[rows[-1]])
    numbers = run.known_numbers(len(z))
    return Convergence(
        epoch=last,
        epochs=list(epochs),
        examined=list(examined),
        losses=losses(run, last),
        shifts=shifts,
        subset=subset,
        embeddings=embeddings,
        rows=np.stack(rows),
        original=None if numbers is None else numbers[np.stack(rows)],
        counts=[len(near) for near in members],
        latents=np.stack(latents),
    )


def losses(run: RunReader, last: int) -> list[dict[str, float]]:
    """Return the losses of each epoch up to one."""
    return [row for row in read_losses(run.files) if row["epoch"] <= last]


def latent_shifts(run: RunReader, epochs: Sequence[int]) -> LatentShifts:
    """Return how the latents of a run change from epoch to epoch.

    Raises:
        RunDirectoryError: If those of an epoch are not finite, or of other particles.
    """
    count = len(run.latents(epochs[-1]))
    return criteria.latent_shifts(epochs, lambda epoch: _checked_latents(run, epoch, count))


def _checked_latents(run: RunReader, epoch: int, count: int) -> Float[np.ndarray, "n zdim"]:
    z = run.latents(epoch)
    where = run.files.latents(epoch)
    if len(z) != count:
        raise RunDirectoryError(f"{where} has {len(z):,} particles, but the last epoch {count:,}.")
    if not np.isfinite(z).all():
        raise RunDirectoryError(f"{where} has latents that are not finite: training has diverged.")
    return z


def _embeddings(
    run: RunReader,
    examined: Sequence[int],
    subset: Int[np.ndarray, " s"],
    folder: ResultFolder,
    executor: Executor,
    progress: Progress,
) -> list[Float[np.ndarray, "s k"]]:
    """Return the UMAP of each epoch; one that is finished in the folder is taken from there."""
    if run.zdim == 1:
        return [run.latents(epoch)[subset] for epoch in examined]
    found: dict[int, np.ndarray] = {}
    for epoch in examined:
        if folder.has("umaps", f"umap.{epoch}.pkl"):
            [stored] = cryodrgn.read_pickles(folder.at("umaps", f"umap.{epoch}.pkl"))
            if isinstance(stored, np.ndarray) and stored.shape == (len(subset), 2):
                found[epoch] = stored
    missing = [epoch for epoch in examined if epoch not in found]
    work = _Embedding(run, subset)
    outcomes = executor.map(work, missing, load=work.load)
    for done, outcome in enumerate(outcomes, start=1):
        if outcome.error:
            raise outcome.error
        found[outcome.item] = outcome.value
        uri = folder.at("umaps", f"umap.{outcome.item}.pkl")
        cryodrgn.write_pickles(uri, outcome.value)
        progress("UMAP", done, len(missing), unit="epochs")
    return [_turned(found[epoch], found[examined[-1]]) for epoch in examined]


def _turned(
    embedding: Float[np.ndarray, "s 2"], onto: Float[np.ndarray, "s 2"]
) -> Float[np.ndarray, "s 2"]:
    """Rotate and reflect an embedding onto another; UMAP leaves both open."""
    middle, target = embedding.mean(axis=0), onto.mean(axis=0)
    turn, _ = orthogonal_procrustes(embedding - middle, onto - target)
    return ((embedding - middle) @ turn + target).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Embedding:
    """UMAP of an epoch, as work for a task."""

    run: RunReader
    subset: Int[np.ndarray, " s"]

    def load(self, epoch: int) -> np.ndarray:
        """Read the latents here; tasks may run where the run directory is not."""
        return self.run.latents(epoch)[self.subset]

    def __call__(self, z: Float[np.ndarray, "s zdim"]) -> Float[np.ndarray, "s 2"]:
        return umap_embedding(z, seed=SEED).astype(np.float32)
