"""``explore``: a run in the browser."""

import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from raydrgn.decoding.options import VolumeOptions
from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.explore.interfaces import Commands, Project
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import NO_PROJECT, Setting
from raydrgn.workflows.epoch import PixelSizeSettings

if TYPE_CHECKING:
    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.explore.actions import Actions
    from raydrgn.explore.decoding import Decoding
    from raydrgn.explore.explored import Explored
    from raydrgn.explore.explorer import Explorer
    from raydrgn.run.latents_file import LatentSource

log = logging.getLogger(__name__)

TABLE_SUFFIX = ".parquet"
"""Of a particle file that may have a part of the original set."""


@dataclass(frozen=True, kw_only=True)
class ExploreSettings(PixelSizeSettings):
    """Settings of ``explore``."""

    run: Annotated[
        str,
        Setting(
            "Run directory, of raydrgn or cryoDRGN; a file of latents; or a project of `protocol`.",
            is_argument=True,
        ),
    ]

    epoch: Annotated[
        int | None,
        Setting("Epoch; the last finished one by default.", is_argument=True, project="epoch"),
    ] = None

    labels: Annotated[
        str | None,
        Setting(
            "File of a label of each particle, in their order or by their original numbers: the "
            "column 'label'."
        ),
    ] = None

    flip: Annotated[
        bool,
        Setting(
            "Change the handedness of volumes; that of a project is taken from it.", project="flip"
        ),
    ] = False

    port: Annotated[int, Setting("Port; the next free one if it is taken.", min=1, max=65535)] = (
        8787
    )

    host: Annotated[
        str,
        Setting(
            "Address to listen at. With another than the default, every computer that reaches this "
            "one can try to open the page, without encryption; prefer an SSH tunnel."
        ),
    ] = "127.0.0.1"

    commands: Commands | None = None
    """What the page can start; the command line hands in its own."""

    project: Project | None = None
    """The project that ``run`` is, if it is one."""


@dataclass(frozen=True, kw_only=True)
class ExploreResult:
    """What became of a server that was stopped."""

    address: str
    """Where the page was, without its token."""

    saved: list[str]
    """Names of the selections that are saved."""


def run(
    settings: ExploreSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> ExploreResult:
    """Serve the page until the process is interrupted.

    Raises:
        RaydrgnError: If the run or the labels cannot be read, or no port is free.
    """
    try:
        from raydrgn.explore.server import bind, serve
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in ("starlette", "uvicorn"):
            raise
        raise ConfigError(
            f"The explorer needs {library}: pip install 'raydrgn[explore]'."
        ) from error

    from raydrgn.explore.session import LOOPBACK

    explored = open_explorer(settings, executor)
    study = explored.run("").study(None)
    if settings.labels is not None:
        study.values("label")
    executor.prepare()
    found = bind(settings.host, settings.port)
    if settings.host not in LOOPBACK:
        log.warning(
            "every computer that reaches %s can try to open this page, and what it shows is not "
            "encrypted; an SSH tunnel to 127.0.0.1 is safer",
            settings.host,
        )
    addresses: list[str] = []

    def ready(address: str) -> None:
        addresses.append(address.partition("?")[0])
        count, zdim = study.z.shape
        log.info("%s particles, zdim %d; Ctrl-C ends it", f"{count:,}", zdim)
        log.info("open in a browser: %s", address)

    serve(explored, found, settings.host, ready=ready)
    selections = explored.run("").results()["selections"]
    return ExploreResult(address=addresses[0], saved=[entry["name"] for entry in selections])


def open_explorer(settings: ExploreSettings, executor: Executor = IN_PROCESS) -> "Explored":
    """Return what answers the page, for a server of one's own.

    Raises:
        RaydrgnError: If there is no such run.
    """
    from raydrgn.explore.decoding import Decoding
    from raydrgn.explore.explored import Explored
    from raydrgn.explore.explorer import Explorer
    from raydrgn.run.latents_file import open_latents

    def open_run(
        root: str, first_epoch: Callable[[], int | None], decoding: "Decoding"
    ) -> "Explorer":
        source = open_latents(root)
        return Explorer(
            source,
            first_epoch=first_epoch,
            labels=settings.labels,
            actions=_actions(replace(settings, run=root), source),
            decoding=decoding,
            pixel_size_angstrom=settings.pixel_size_angstrom,
            is_flipped=lambda: _options(settings).flip,
        )

    def open_pool(root: str, epoch: int | None) -> "DecoderPool":
        from raydrgn.decoding.pool import DecoderPool

        state = open_latents(root).decoder(epoch, pixel_size_angstrom=settings.pixel_size_angstrom)
        return DecoderPool(state, _options(settings), executor)

    return Explored(
        settings.run,
        settings.epoch,
        open_run,
        decoding=Decoding(open_pool, workers=executor.workers),
        commands=settings.commands,
        project=settings.project,
        server_url=lambda: executor.job_server,
    )


def _options(settings: ExploreSettings) -> VolumeOptions:
    """Return what is done to volumes: what is given, or what the project has decided by now."""
    project = settings.project
    return VolumeOptions(flip=settings.flip or (project is not None and project.is_flipped()))


def _actions(settings: ExploreSettings, source: "LatentSource") -> "Actions":
    """Return the workflows that the page can start, on this run."""
    from raydrgn.explore.actions import Actions
    from raydrgn.workflows import filter, volumes

    def save_selection(epoch: int | None, conditions: str, out: str) -> list[str]:
        filter.run(
            filter.FilterSettings(
                run=settings.run,
                epoch=epoch,
                conditions=conditions,
                labels=settings.labels,
                skip_volumes=True,
                out=out,
            )
        )
        return [*_write_rows(source, out), *_export(source, out)]

    def save_volumes(epoch: int | None, chosen: Sequence[int] | str, out: str) -> list[str]:
        is_file = isinstance(chosen, str)
        made = volumes.run(
            volumes.VolumesSettings(
                run=settings.run,
                epoch=epoch,
                particles=None if is_file else ",".join(map(str, chosen)),
                z_file=str(chosen) if is_file else None,
                out=out,
                pixel_size_angstrom=settings.pixel_size_angstrom,
                volumes=_options(settings),
            )
        )
        return made.failures

    return Actions(
        save_selection=save_selection,
        save_volumes=save_volumes,
        train=lambda folder, name: _train_settings(settings, source, folder, name),
    )


def _write_rows(source: "LatentSource", out: str) -> list[str]:
    """Write a saved selection as rows of a table of particles, too; return problems.

    In a table of a selection these are other numbers than those of the original set.
    """
    from raydrgn.explore.run_files import KEPT, ROWS
    from raydrgn.io import cryodrgn, storage
    from raydrgn.io.selection import rows_of
    from raydrgn.run.reader import RunReader

    given = source.source if isinstance(source, RunReader) else None
    if given is None or not given.particles.endswith(TABLE_SUFFIX):
        return []
    try:
        numbers = cryodrgn.read_indices(storage.join(out, KEPT))
        cryodrgn.write_indices(storage.join(out, ROWS), rows_of(given, numbers))
    except RaydrgnError as error:
        return [f"There is no command to train on the selection: {error}"]
    return []


def _export(source: "LatentSource", out: str) -> list[str]:
    """Write a saved selection for the program that its particles came from; return problems."""
    from raydrgn.explore.run_files import KEPT
    from raydrgn.io import storage
    from raydrgn.io.originals import original_of
    from raydrgn.io.particle_source import ParticleSource
    from raydrgn.run.reader import RunReader
    from raydrgn.workflows import export

    if not isinstance(source, RunReader):
        return []
    command = "export star"
    chosen = ParticleSource(particles=source.root, ind=storage.join(out, KEPT))
    try:
        if original_of(source.particles(), ".cs") is not None:
            command = "export cs"
            cs = export.ExportCsSettings(source=chosen, out=storage.join(out, "kept.cs"))
            export.run_cs(cs)
        else:
            star = export.ExportStarSettings(source=chosen, out=storage.join(out, "kept.star"))
            export.run_star(star)
    except RaydrgnError as error:
        return [f"raydrgn {command}: {error}"]
    return []


def _train_settings(
    settings: ExploreSettings, source: "LatentSource", folder: str, name: str
) -> dict[str, str | bool]:
    """Return what trains a new run on a saved selection, by the names of its settings; in words.

    A selection has the numbers of the original set, as the run's own ``--ind`` had; of a particle
    table its rows are taken. Nothing is returned if the run does not know its particles.
    """
    from raydrgn.explore.run_files import KEPT, ROWS
    from raydrgn.io import storage
    from raydrgn.run.reader import RunReader

    if not isinstance(source, RunReader) or source.source is None:
        return {}
    ind = storage.join(folder, ROWS if source.source.particles.endswith(TABLE_SUFFIX) else KEPT)
    if not storage.exists(ind):
        return {}
    given = source.source
    found: dict[str, str | bool] = {"particles": given.particles, "zdim": str(source.zdim)}
    found |= {key: value for key in ("poses", "ctf", "datadir") if (value := getattr(given, key))}
    if given.passthrough:
        found["passthrough"] = shlex.join(given.passthrough)
    if given.half_size_shifts:
        found["half_size_shifts"] = True
    if not source.inverts:
        found["uninvert_data"] = True
    if source.is_mixture:
        found |= {"method": "mfa", "components": found.pop("zdim")}
    project = settings.project.root if settings.project else NO_PROJECT
    return {**found, "ind": ind, "project": project, "out": f"explore/runs/{name}"}
