"""``backproject``: a map of particles with poses, to see that images, poses and CTF fit."""

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.inputs.options import BackprojectionOptions
from raydrgn.io.particle_source import DropBad, ParticleSource
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    from raydrgn.inputs.backprojection import Backprojection
    from raydrgn.io.particles import ParticleTable

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BackprojectSettings(BackprojectionOptions):
    """Settings of ``backproject``."""

    source: ParticleSource

    out: Annotated[str, Setting("Folder for maps, curves and figures.", flags=("-o", "--out"))]

    first: Annotated[
        int | None,
        Setting("Use the first particles only, this many; 10000 are enough for a check.", min=2),
    ] = None

    poses_from: Annotated[
        str | None,
        Setting(
            "Run of --method mfa with `halves`: back-project each half of the particles with the "
            "poses that its own fit has refined, and compare with the given poses.",
            metavar="RUN",
        ),
    ] = None

    drop_bad: DropBad = False

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class BackprojectResult:
    """Maps and what they show; the folder has them as files."""

    out: str
    particles: "ParticleTable"
    maps: "Backprojection"


def run(
    settings: BackprojectSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> BackprojectResult:
    """Back-project particles, judge the maps, and write both.

    Raises:
        RaydrgnError: If the particles or the folder do not allow it; pixel sizes that differ by
            more than 20 % are refused.
    """
    from raydrgn.data.image_statistics import leave_out_bad
    from raydrgn.inputs import report
    from raydrgn.inputs.backprojection import back_project
    from raydrgn.inputs.verdict import what_refinement_gave
    from raydrgn.io import storage
    from raydrgn.io.pixel_sizes import reference_pixel_size
    from raydrgn.io.sources import open_particles, require_poses
    from raydrgn.io.unmodelled import refuse_unmodelled
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.refined_poses import with_poses_of_halves

    out = storage.absolute(settings.out)
    table = open_particles(settings.source)
    table = table.slice_rows(0, min(settings.first or len(table), len(table)))
    require_poses(table)
    reference_pixel_size(table)  # refuses what is too different before the folder is made
    refuse_unmodelled(table)
    report.check_folder(out, box=table.single_box())
    ResultFolder(out).require_writable()
    if settings.drop_bad:
        table, _ = leave_out_bad(table)
    refined, given, half_of, concern = table, None, None, None
    if settings.poses_from:
        refined, half_of, concern = with_poses_of_halves(table, settings.poses_from)
        if concern:
            log.warning("%s", concern)
    storage.make_folder(out)  # after all that may be refused
    if settings.poses_from:
        named = partial(_of_given_poses, progress)
        given = back_project(
            table, settings, half_of=half_of, executor=executor, progress=named
        ).resolution
    maps = back_project(refined, settings, half_of=half_of, executor=executor, progress=progress)
    if given is not None:
        finding = what_refinement_gave(maps.resolution, given)
        findings = [finding, *([concern] if concern else []), *maps.verdict.findings]
        verdict = replace(maps.verdict, findings=findings)
        maps = replace(maps, verdict=verdict)
    report.write_backprojection(maps, out, given=given)
    return BackprojectResult(out=settings.out, particles=refined, maps=maps)


def _of_given_poses(progress: Progress, what: str, *done: int, **more: Any) -> None:
    progress(f"given poses: {what}", *done, **more)
