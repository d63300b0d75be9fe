"""Steps b to e of the protocol after a training: its analysis, a proposal, and a selection."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.storage import Uri
from raydrgn.mfa.config import SHOWS_NOTHING
from raydrgn.protocol.decisions import CHECKSUM, IND, file_identity
from raydrgn.protocol.project import Project, Step
from raydrgn.protocol.settings import NONE, TrainingPlan
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.inputs.options import BackprojectionOptions
    from raydrgn.protocol.proposal import Proposal
    from raydrgn.run.reader import RunReader
    from raydrgn.shapes import Float

log = logging.getLogger(__name__)

CLUSTERS = 20
KEPT = "kept.ind.pkl"
"""Kept particles by their numbers in the original file."""

ROWS = "kept.rows.pkl"
"""Kept particles as rows of the file that a round was trained from."""

ROWS_OF_ORIGINAL = "kept.rows_of_original.pkl"
"""Kept particles as rows of the file that the project was begun with."""

PER_CLUSTER = 10
"""Fewer clusters are made where there are fewer particles to each."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round: what is trained on which particles, and how."""

    number: int
    plan: TrainingPlan
    option: str
    """How the command line calls the plan."""

    source: ParticleSource
    """All particles, in the box of the round."""

    rows: Uri | None
    """Particles to take, as rows of their file; None takes all."""

    uninvert_data: bool
    flip: bool
    drop_bad: bool
    seed: int

    @property
    def source_of_rows(self) -> ParticleSource:
        """The particles of the round."""
        return self.source if self.rows is None else replace(self.source, ind=self.rows)


def analyze_round(
    project: Project, this: Round, trained: Step, *, executor: Executor, progress: Progress
) -> Step:
    """Embed and cluster the latents, and decode a volume of each cluster.

    The result has ``ksample``; results lie where other commands find them, in the run.
    """
    epoch = trained.result["epoch"]

    def make(_: Uri) -> tuple[dict[str, Any], list[str]]:
        from raydrgn.decoding.options import VolumeOptions
        from raydrgn.run.reader import open_run
        from raydrgn.workflows import analyze

        count = len(open_run(trained.folder).latents(epoch))
        ksample = max(1, min(CLUSTERS, count // PER_CLUSTER))
        settings = analyze.AnalyzeSettings(
            run=trained.folder,
            epoch=epoch,
            ksample=ksample,
            volumes=VolumeOptions(flip=this.flip),
        )
        analyze.run(settings, executor=executor, progress=progress)
        return {"ksample": ksample}, ["report.html", f"kmeans{ksample}/labels.pkl"]

    given = {"epoch": epoch, "flip": this.flip}
    return project.step(
        f"analysis of round {this.number}",
        given,
        make,
        after=[trained],
        folder=f"{trained.folder.removeprefix(f'{project.root}/')}/analyze.{epoch}",
    )


def propose_junk(
    project: Project,
    this: Round,
    trained: Step,
    analyzed: Step,
    *,
    executor: Executor,
    progress: Progress,
) -> Step:
    """Propose what is junk, with numbers of each cluster and a page that shows them.

    The result has ``clusters`` and ``null`` that are proposed, how many of the ``particles`` they
    ``drop``, and a ``summary`` and a ``table`` for a person to read.
    """

    def make(folder: Uri) -> tuple[dict[str, Any], list[str]]:
        from raydrgn.inputs.options import BackprojectionOptions
        from raydrgn.protocol.proposal import write_proposal
        from raydrgn.protocol.proposal_page import write_page
        from raydrgn.reporting.result_folder import ResultFolder

        latents = _ClusteredLatents.of(trained, analyzed)
        run, epoch = latents.run, latents.epoch
        options = BackprojectionOptions(uninvert_data=this.uninvert_data, flip=this.flip)
        found = latents.propose(options, executor=executor, progress=progress)
        results = ResultFolder(folder)
        results.begin({"command": "proposal"}, made_from=run.identity(epoch), overwrite=False)
        write_proposal(found, run.original_numbers(len(latents.z)), results)
        write_page(
            found,
            run,
            epoch,
            latents.volumes,
            results,
            labels=latents.labels,
            command=project.command(),
            explore=project.explore_command,
        )
        results.finish()
        return _result_of_proposal(found, latents.null), ["report.html", "clusters.csv"]

    return project.step(
        f"proposal of round {this.number}",
        {"flip": True} if this.flip else {},
        make,
        after=[trained, analyzed],
        folder=f"proposal{this.number}",
    )


@dataclass(frozen=True, kw_only=True)
class _ClusteredLatents:
    """Latents of an epoch, with the clusters that its analysis has."""

    run: "RunReader"
    epoch: int
    z: "Float[np.ndarray, 'n zdim']"
    labels: "np.ndarray"
    """Cluster of each particle."""

    volumes: "list[np.ndarray]"
    """Decoded volume of each cluster."""

    null: "Float[np.ndarray, ' n'] | None"
    """Probability of each image to show no particle, where the training looked for such."""

    @classmethod
    def of(cls, trained: Step, analyzed: Step) -> "_ClusteredLatents":
        """Read what a training and its analysis have left."""
        from raydrgn.run.reader import open_run

        run, epoch = open_run(trained.folder), trained.result["epoch"]
        z = run.finite_latents(epoch)
        labels, volumes = _clusters(run, epoch, analyzed.result["ksample"], len(z))
        null = _null_probability(run, epoch)
        return cls(run=run, epoch=epoch, z=z, labels=labels, volumes=volumes, null=null)

    def propose(
        self, options: "BackprojectionOptions", *, executor: Executor, progress: Progress
    ) -> "Proposal":
        """Back-project the particles of each cluster, and propose which are junk."""
        from raydrgn.protocol.cluster_numbers import cluster_numbers
        from raydrgn.protocol.proposal import propose

        numbers = cluster_numbers(
            self.run.particles(need_images=True),
            self.z,
            self.labels,
            self.volumes,
            null=self.null,
            options=options,
            executor=executor,
            progress=progress,
        )
        has_latents = self.run.has_latents(self.epoch)
        return propose(numbers, self.z, self.labels, self.null, has_latents=has_latents)


def _result_of_proposal(
    found: "Proposal", null: "Float[np.ndarray, ' n'] | None"
) -> dict[str, Any]:
    """Return what a person, or the next step, needs of a proposal, as plain values.

    Args:
        found: The proposal.
        null: Probability of each image to show no particle, where the training looked for such.
    """
    from raydrgn.protocol.proposal import cluster_table
    from raydrgn.protocol.proposal_page import summary

    table = cluster_table(found)
    return {
        "clusters": found.clusters,
        "null": SHOWS_NOTHING if null is not None else None,
        "drop": int((~found.kept).sum()),
        "nothing": 0 if null is None else int((null > SHOWS_NOTHING).sum()),
        "particles": len(found.kept),
        "summary": summary(found),
        "table": [list(table.head), *map(list, table.rows)],
    }


def _null_probability(run: "RunReader", epoch: int) -> "Float[np.ndarray, ' n'] | None":
    """Return the probability of each image to show no particle.

    None where the training did not look for such images: an autoencoder, and a mixture with too
    little signal.
    """
    from raydrgn.run.mixture import read_mixture

    if not run.is_mixture or read_mixture(run, epoch).priors.null_share <= 0:
        return None
    null: Float[np.ndarray, " n"] = run.estimates(epoch)["null_probability"]
    return null


def proposed_selection(proposal: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``clusters`` and ``null`` that the result of a proposal drops."""
    null = proposal["null"] if proposal["nothing"] else None
    return {"clusters": list(proposal["clusters"]), "null": null}


def drops(selection: Mapping[str, Any]) -> bool:
    """Return whether a selection, as ``select_particles`` takes it, drops anything."""
    return bool(selection["clusters"]) or selection["null"] is not None or IND in selection


def _saved_selection(project: Project, selection: dict[str, Any]) -> Uri | None:
    """Return the file of a selection that was saved in the explorer, if one was chosen.

    Raises:
        InputError: If it is gone, or another one since it was chosen.
    """
    if IND not in selection:
        return None
    uri = project.at(selection[IND])
    if not storage.exists(uri) or file_identity(uri) != selection[CHECKSUM]:
        raise InputError(
            f"{uri}, the selection that was chosen, is gone or has changed. Choose again: "
            f"{project.explore_command}, or {project.command('--accept')}."
        )
    return uri


def _clusters(
    run: "RunReader", epoch: int, ksample: int, count: int
) -> "tuple[np.ndarray, list[np.ndarray]]":
    """Return the cluster of each particle, and the volume of each cluster."""
    from raydrgn.io.mrc import read_volume, volume_name
    from raydrgn.reporting.analysis_results import AnalysisResults, kmeans_folder

    analysis = AnalysisResults(run, epoch)
    folder = kmeans_folder(ksample)
    volumes = [read_volume(analysis.folder.at(folder, volume_name(k)))[0] for k in range(ksample)]
    return analysis.labels(ksample, count), volumes


def select_particles(
    project: Project,
    this: Round,
    trained: Step,
    analyzed: Step,
    selection: dict[str, Any],
    *,
    executor: Executor,
    progress: Progress,
) -> Step:
    """Make a selection of the round's particles.

    Args:
        project: The project.
        this: The round.
        trained: Its training.
        analyzed: Its analysis.
        selection: ``clusters`` and ``null`` to drop, the latter None to drop none by it; or with
            ``ind`` a file of the project, the particles that it keeps.
        executor: Where volumes are decoded.
        progress: Called with how much is done.

    Returns:
        The step, whose result has ``kept`` and ``particles``.

    Raises:
        RaydrgnError: If it cannot be made.
    """

    def make(folder: Uri) -> tuple[dict[str, Any], list[str]]:
        from raydrgn.decoding.options import VolumeOptions
        from raydrgn.io import cryodrgn
        from raydrgn.io.selection import rows_of
        from raydrgn.run.reader import open_run
        from raydrgn.workflows import filter as filters

        run, epoch = open_run(trained.folder), trained.result["epoch"]
        settings = filters.FilterSettings(
            run=trained.folder,
            epoch=epoch,
            out=folder,
            ksample=analyzed.result["ksample"],
            drop_clusters=",".join(map(str, selection["clusters"])) or None,
            null=selection["null"],
            ind=_saved_selection(project, selection),
            volumes=VolumeOptions(flip=this.flip),
        )
        found = filters.run(settings, executor=executor, progress=progress)
        count, kept = len(found.kept), int(found.kept.sum())
        numbers = run.original_numbers(count)[found.kept]
        inputs = project.decisions.inputs
        assert inputs is not None
        for source, name in ((this.source, ROWS), (inputs.source, ROWS_OF_ORIGINAL)):
            cryodrgn.write_indices(storage.join(folder, name), rows_of(source, numbers))
        return {"kept": kept, "particles": count}, [KEPT, ROWS, ROWS_OF_ORIGINAL]

    return project.step(
        f"selection of round {this.number}",
        selection,
        make,
        after=[trained, analyzed],
        folder=f"selection{this.number}",
    )


def require_enough(
    project: Project, this: Round, trained: Step, analyzed: Step, selection: dict[str, Any]
) -> None:
    """Refuse a selection that leaves all but nothing, before anything of it is written.

    Raises:
        InputError: Naming the page that shows the proposal, and how to choose otherwise.
    """
    import numpy as np

    from raydrgn.io import cryodrgn
    from raydrgn.protocol.proposal import FEWEST_KEPT
    from raydrgn.reporting.analysis_results import AnalysisResults
    from raydrgn.run.reader import open_run

    run, epoch = open_run(trained.folder), trained.result["epoch"]
    count = trained.result["particles"]
    labels = AnalysisResults(run, epoch).labels(analyzed.result["ksample"], count)
    is_kept = ~np.isin(labels, selection["clusters"])
    if selection["null"] is not None:
        is_kept &= run.estimates(epoch)["null_probability"] <= selection["null"]
    if (saved := _saved_selection(project, selection)) is not None:
        is_kept &= np.isin(run.original_numbers(count), cryodrgn.read_indices(saved))
    kept = int(is_kept.sum())
    if kept < max(FEWEST_KEPT * count, 2 * PER_CLUSTER):
        raise InputError(
            f"Only {kept:,} of {count:,} particles would be left, too few to go on with. Look at "
            f"{project.at(f'proposal{this.number}', 'report.html')}, and name the clusters to "
            f"drop: {project.command('--drop', NONE)} keeps all."
        )
