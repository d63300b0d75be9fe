"""Steps f and g of the protocol: a path, the landscape, occupancies, classes and their exports."""

import logging
from contextlib import nullcontext, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.storage import Uri
from raydrgn.protocol.decision_values import PIXEL_SIZE
from raydrgn.protocol.inputs import mask_settings
from raydrgn.protocol.project import Project, Step
from raydrgn.protocol.rounds import PER_CLUSTER, Round
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.io.particles import ParticleTable
    from raydrgn.run.reader import RunReader

log = logging.getLogger(__name__)

SKETCHED, STATES, SAMPLED = 1000, 10, 10_000
"""As ``landscape`` has them, or less where there are few particles."""

SCORED = 500
"""Volumes whose occupancies are scored, as in the paper."""

SUBUNITS = "subunits"
"""Folder of the masks within their step."""

NO_DIFFERENCE = (
    "The volumes of the last round do not differ: the images show no difference between the "
    "particles, which are one class."
)

LEAST_SHARE = 0.01
"""Share of the particles from which a cluster is an end of the path."""


def traverse(
    project: Project, this: Round, trained: Step, analyzed: Step, *, executor: Executor,
    progress: Progress,
) -> Step:  # fmt: skip
    """Make the path between the two cluster centres that lie farthest apart.

    The result has ``centres`` and ``path``: ``graph``, or ``direct`` where no neighbours lead from
    one to the other.
    """
    epoch, ksample = trained.result["epoch"], analyzed.result["ksample"]

    def make(folder: Uri) -> tuple[dict[str, Any], list[str]]:
        from raydrgn.decoding.options import VolumeOptions
        from raydrgn.latent.paths import NoPathError
        from raydrgn.run.reader import open_run
        from raydrgn.workflows import traverse as workflow

        run = open_run(trained.folder)
        ends = far_centres(run, epoch, ksample)
        given: dict[str, Any] = {
            "run": trained.folder,
            "epoch": epoch,
            "centres": f"{ksample}:{','.join(map(str, ends))}",
            "volumes": VolumeOptions(flip=this.flip),
        }
        kind = "graph"
        try:
            settings: Any = workflow.TraverseGraphSettings(
                **given, out=storage.join(folder, "graph")
            )
            workflow.run(settings, executor=executor, progress=progress)
        except NoPathError:  # the particles fall into parts without neighbours in each other
            kind = "direct"
            settings = workflow.TraverseDirectSettings(**given, out=storage.join(folder, "direct"))
            workflow.run(settings, executor=executor, progress=progress)
        return {"centres": ends, "path": kind}, [f"{kind}/settings.json"]

    return project.step("path", {"flip": this.flip}, make, after=[trained, analyzed])


def far_centres(run: "RunReader", epoch: int, ksample: int) -> list[int]:
    """Return the two k-means clusters of 1 % of the particles or more that are farthest apart."""
    import numpy as np
    from scipy.spatial.distance import cdist

    from raydrgn.reporting.analysis_results import AnalysisResults

    z = run.finite_latents(epoch)
    analysis = AnalysisResults(run, epoch)
    rows, labels = analysis.centres(ksample), analysis.labels(ksample, len(z))
    sizes = np.bincount(labels, minlength=ksample)
    large = np.flatnonzero(sizes >= LEAST_SHARE * len(z))
    if len(large) < 2:
        large = np.argsort(-sizes)[:2]
    distance = cdist(z[rows[large]], z[rows[large]])
    first, second = np.unravel_index(distance.argmax(), distance.shape)
    return [int(large[first]), int(large[second])]


def landscape(
    project: Project, this: Round, trained: Step, *, executor: Executor, progress: Progress
) -> Step:
    """Find states and components in the space of volumes.

    The result has the number of ``states``: 1 where the volumes do not differ at all, or by nothing
    that the images determine.
    """

    def make(folder: Uri) -> tuple[dict[str, Any], list[str]]:
        from raydrgn.decoding.options import VolumeOptions
        from raydrgn.landscape.components import EqualVolumesError
        from raydrgn.landscape.results import PARTICLES, write_one_state
        from raydrgn.run.reader import open_run
        from raydrgn.workflows import landscape as workflow

        count = trained.result["particles"]
        ksample = max(2, min(SKETCHED, count // PER_CLUSTER))
        settings = workflow.LandscapeSettings(
            run=trained.folder,
            epoch=trained.result["epoch"],
            out=folder,
            ksample=ksample,
            states=min(STATES, ksample),
            sample=min(SAMPLED, count),
            volumes=VolumeOptions(flip=this.flip),
        )
        run = open_run(trained.folder)
        found = None
        if run.has_latents(trained.result["epoch"]):  # else volumes differ by noise alone
            with suppress(EqualVolumesError):
                found = workflow.run(settings, executor=executor, progress=progress)
        if found is None:
            log.warning("%s", NO_DIFFERENCE)
            write_one_state(run.original_numbers(count), folder)
            return {"states": 1}, [PARTICLES]
        return {"states": found.sketch.num_states}, ["report.html", PARTICLES]

    return project.step("landscape", {"flip": this.flip}, make, after=[trained])


def make_masks(
    project: Project, box: int, *, image_box: int, executor: Executor, progress: Progress
) -> Step | None:
    """Make masks of the model's subunits on the map; None without a model.

    Args:
        project: The project.
        box: Of the last round, whose volumes are scored; a larger map is brought to it.
        image_box: Of the images; a map of another box × pixel size is brought to theirs.
        executor: Passed on.
        progress: Called after each subunit.
    """
    from raydrgn.inputs.map_grid import has_field, write_on_grid

    inputs = project.decisions.inputs
    assert inputs is not None
    density = inputs.map
    if inputs.model is None:
        return None
    size = project.decisions.get(PIXEL_SIZE)
    assert size is not None
    field_angstrom = size.value * image_box
    fits = has_field(density, field_angstrom)

    def make(folder: Uri) -> tuple[dict[str, Any], list[str]]:
        from raydrgn.io.mrc import read_header
        from raydrgn.workflows import occupancy_masks

        own, small = read_header(density), density
        if not fits:
            log.info(
                "the map has a box of %d px of %.4g Å; masks are made on the grid of the volumes, "
                "%d px of %.4g Å",
                own.shape[-1],
                own.pixel_size_angstrom,
                box,
                field_angstrom / box,
            )
        if not fits or own.shape[-1] > box:
            small = storage.join(folder, "map.mrc")
            write_on_grid(density, small, box=box, field_angstrom=field_angstrom)
        made = occupancy_masks.run(
            mask_settings(inputs, small, out=storage.join(folder, SUBUNITS)),
            executor=executor,
            progress=progress,
        )
        return {"subunits": len(made.masks)}, [f"{SUBUNITS}/settings.json"]

    given = {name: project.decisions.checksums.get(name) for name in ("map", "model", "by")}
    grid = {"box": box} if fits else {"box": box, "field_angstrom": field_angstrom}
    return project.step("masks", {**given, **grid}, make)


def occupancies(
    project: Project,
    this: Round,
    trained: Step,
    masks: Step,
    *,
    executor: Executor,
    progress: Progress,
) -> list[Step]:
    """Score volumes with masks, and find classes.

    The last step's result has the number of ``classes``.
    """

    def make_scores(folder: Uri) -> tuple[dict[str, Any], list[str]]:
        from raydrgn.workflows import occupancy_score

        count = trained.result["particles"]
        settings = occupancy_score.OccupancyScoreSettings(
            run=trained.folder,
            epoch=trained.result["epoch"],
            masks=masks.at(SUBUNITS),
            ksample=max(2, min(SCORED, count // PER_CLUSTER)),
            flip=this.flip,
            out=folder,
        )
        made = occupancy_score.run(settings, executor=executor, progress=progress)
        found: dict[str, Any] = {"volumes": len(made.table)}
        if made.alignment is not None and made.alignment.warning:
            found["misplaced"] = made.alignment.warning
        return found, ["occupancies.csv"]

    scores = project.step("occupancies", {"flip": this.flip}, make_scores, after=[trained, masks])

    def make_classes(folder: Uri) -> tuple[dict[str, Any], list[str]]:
        from raydrgn.workflows import occupancy_classes

        settings = occupancy_classes.OccupancyClassesSettings(table=scores.folder, out=folder)
        made = occupancy_classes.run(settings, executor=executor, progress=progress)
        return {"classes": made.clustered.classes.count}, ["report.html", "labels.pkl"]

    return [scores, project.step("occupancy classes", {}, make_classes, after=[scores])]


def class_maps(
    project: Project,
    this: Round,
    trained: Step,
    grouped: Step,
    *,
    executor: Executor,
    progress: Progress,
) -> Step:
    """Back-project the particles of each class at full box, and export them.

    Classes are those of occupancies, or the states of the landscape where there is no model. The
    result has the ``classes`` as plain values.
    """

    def make(folder: Uri) -> tuple[dict[str, Any], list[str]]:
        import numpy as np

        from raydrgn.inputs.options import BackprojectionOptions
        from raydrgn.io.sources import open_particles
        from raydrgn.io.verification import quiet
        from raydrgn.protocol.class_folder import make_classes
        from raydrgn.run.reader import open_run

        run = open_run(trained.folder)
        labels, names = read_classes(grouped, len(run.latents(trained.result["epoch"])))
        inputs = project.decisions.inputs
        assert inputs is not None
        table = open_particles(inputs.source)
        found = make_classes(
            run,
            trained.result["epoch"],
            {name: np.flatnonzero(labels == k) for k, name in enumerate(names)},
            table=table,
            out=folder,
            options=BackprojectionOptions(uninvert_data=this.uninvert_data, flip=this.flip),
            executor=executor,
            progress=progress,
        )
        suffix = export_suffix(inputs.source.particles)
        files = [f"{c.name}/particles{suffix}" for c in found if c.particles]
        for count, name in enumerate(files):
            with quiet() if count else nullcontext():  # what is logged of the first is of all
                export_particles(inputs.source, table, storage.join(folder, name))
        return {"classes": [c.to_dict() for c in found], "suffix": suffix}, files

    given = {"flip": this.flip, "uninvert_data": this.uninvert_data, "support": "differences"}
    if this.flip:
        given["compared"] = "before they are reversed"
    return project.step("classes", given, make, after=[trained, grouped])


def read_classes(grouped: Step, count: int) -> "tuple[np.ndarray, list[str]]":
    """Return the class of each particle, from 0 (−1 for none), and the name of each class."""
    import numpy as np

    from raydrgn.io import cryodrgn
    from raydrgn.io.tables import read_parquet
    from raydrgn.landscape.results import PARTICLES

    if "classes" in grouped.result:
        labels = cryodrgn.read_labels(grouped.at("labels.pkl")) - 1
        return labels, [f"C{k + 1}" for k in range(grouped.result["classes"])]
    uri = grouped.at(PARTICLES)
    table = read_parquet(storage.read_bytes(uri), uri)
    states = np.asarray(table["state"], dtype=np.int64)
    assert len(states) == count
    return states, [f"S{k}" for k in range(grouped.result["states"])]


def export_suffix(particles: Uri) -> str:
    """Return what the particles of a class are exported as: cryoSPARC's files as such."""
    return ".cs" if PurePosixPath(particles).suffix.lower() == ".cs" else ".star"


def export_particles(source: ParticleSource, table: "ParticleTable", out: Uri) -> None:
    """Export the particles of ``ind.pkl`` beside a file, by their numbers in the original set.

    They are rows of the source's file only where that is the original set, and no selection of it.
    """
    from raydrgn.io import cryodrgn
    from raydrgn.io.selection import export_cs, export_star, select_indices

    numbers = cryodrgn.read_indices(storage.join(storage.parent(out), "ind.pkl"))
    export = export_cs if out.endswith(".cs") else export_star
    export(source, out, table=select_indices(table, numbers))
