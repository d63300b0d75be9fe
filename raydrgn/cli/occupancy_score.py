"""``raydrgn occupancy score``."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from raydrgn.cli.console import console, messages, metering
from raydrgn.cli.decoding import decoding, end_with
from raydrgn.cli.options import Address, Flip, Invert, Overwrite, PixelSize

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.occupancy.scored_volumes import WantedVolumes
    from raydrgn.occupancy.subunits import SubunitSet
    from raydrgn.occupancy.table import OccupancyTable
    from raydrgn.run.reader import RunReader

    Result = tuple[OccupancyTable, list[str]]


def score(
    masks: Annotated[
        str, typer.Option(help="Folder of masks: what `occupancy masks` wrote, or any .mrc files.")
    ],
    run: Annotated[
        str | None, typer.Argument(help="Run directory, of raydrgn or cryoDRGN.")
    ] = None,
    volumes: Annotated[str | None, typer.Option(help="Folder of maps, instead of a run.")] = None,
    ksample: Annotated[
        int | None, typer.Option(min=1, help="Volumes at the centres of so many k-means clusters.")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="A volume for every particle of the run.")
    ] = False,
    z_file: Annotated[
        str | None, typer.Option(help="Latents, one per line; also .npy or z.N.pkl.")
    ] = None,
    epoch: Annotated[int | None, typer.Option(help="Epoch; the last whole one by default.")] = None,
    references: Annotated[
        str | None,
        typer.Option(help="Folder of reference densities, if it is not beside the masks."),
    ] = None,
    normalize: Annotated[
        Literal["reference", "none"],
        typer.Option(help="Divide by the sum of the reference density, or give masked sums."),
    ] = "reference",
    binarize: Annotated[
        str | None,
        typer.Option(
            metavar="T|FILE",
            help="Count voxels from this density on; or a CSV file with vol_id and "
            "denormalized_predictions.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", help="Folder to write; RUN/occupancy.N by default."),
    ] = None,
    flip: Flip = False,
    invert: Invert = False,
    pixel_size: PixelSize = None,
    overwrite: Overwrite = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Worker processes: 1 by default for a run, one per core for many maps."
        ),
    ] = None,
    address: Address = None,
) -> None:
    """Score the occupancy of each subunit in each volume of a run, or of a folder.

    Writes OUT/occupancies.csv (MAVEn's layout) and OUT/occupancies.parquet. Volumes of a run are
    decoded in the masks' box and scored where they are made; none is written. Stopped, the same
    command goes on where it was.
    """
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.errors import ConfigError
    from raydrgn.io import storage
    from raydrgn.io.storage import checksum
    from raydrgn.occupancy.subunits import read_subunits, refuse_inputs

    asked = [ksample is not None, all_, z_file is not None, volumes is not None]
    if sum(asked) != 1 or (run is None) != (volumes is not None):
        raise ConfigError(
            "Say which volumes: RUN with one of --ksample, --all and --z-file, or --volumes."
        )
    if volumes is not None and (flip or invert):
        raise ConfigError(
            "--flip and --invert are for the volumes of a run; maps stay as they are."
        )
    subunits = read_subunits(storage.absolute(masks), references=references, normalize=normalize)
    settings: dict[str, object] = {
        "masks": storage.absolute(masks),
        "subunits": checksum(subunits.weights.data.tobytes() + subunits.weights.indices.tobytes()),
        "full": None if subunits.full is None else checksum(subunits.full.tobytes()),
        "normalize": normalize,
        "binarize": binarize,
    }
    if volumes is not None:
        if out is None:
            raise ConfigError("Say where to write with -o.")
        refuse_inputs(out, [volumes, masks])
        table, failures = _of_folder(
            volumes, subunits, settings,
            out=out, binarize=binarize, overwrite=overwrite, workers=workers, address=address,
        )  # fmt: skip
    else:
        from raydrgn.run.reader import open_run

        opened = open_run(run or "")
        chosen = opened.epoch(epoch)
        out = out or opened.files.results("occupancy", chosen)
        refuse_inputs(out, [opened.files.root, masks])
        if subunits.box > opened.box:
            raise ConfigError(
                f"The masks have a box of {subunits.box} px, but {opened.files.root} has one of "
                f"{opened.box} px; make masks on a map of that box or a smaller one."
            )
        options = VolumeOptions(box=subunits.box, flip=flip, invert=invert)
        options.check(opened.box)
        table, failures = _of_run(
            opened, chosen, subunits, options, settings,
            ksample=ksample, every=all_, z_file=z_file, out=out, binarize=binarize,
            pixel_size=pixel_size, overwrite=overwrite, workers=workers or 1, address=address,
        )  # fmt: skip
    console.print(
        f"{len(table):,} volumes × {len(table.subunits)} subunits → {out}",
        highlight=False,
        soft_wrap=True,
    )
    end_with(failures)


def _of_folder(
    volumes: str,
    subunits: "SubunitSet",
    settings: dict[str, object],
    *,
    out: str,
    binarize: str | None,
    overwrite: bool,
    workers: int | None,
    address: str | None,
) -> "Result":
    """Score the maps of a folder."""
    from raydrgn.io import storage
    from raydrgn.occupancy.masked_sums import ScoreFiles
    from raydrgn.occupancy.scored_volumes import of_folder, read_samples
    from raydrgn.occupancy.scoring import score, scored_files
    from raydrgn.remote.session import single_core_tasks
    from raydrgn.reporting.result_folder import ResultFolder

    wanted = of_folder(volumes, subunits)
    work = ScoreFiles(subunits, wanted.uris, _thresholds(binarize, wanted))
    folder = ResultFolder(out)
    folder.begin(
        settings | {"volumes": storage.absolute(volumes), "count": len(wanted.names)},
        overwrite=overwrite,
    )
    _say_alignment(subunits, read_samples(wanted))
    size = sum(map(storage.file_size, wanted.uris))
    with (
        single_core_tasks(workers, address, input_bytes=size) as allocation,
        metering("volumes") as meter,
    ):
        return score(
            wanted,
            subunits,
            scored_files(work, allocation),
            folder,
            progress=meter.callback("scoring"),
        )


def _of_run(
    opened: "RunReader",
    epoch: int | None,
    subunits: "SubunitSet",
    options: "VolumeOptions",
    settings: dict[str, object],
    *,
    ksample: int | None,
    every: bool,
    z_file: str | None,
    out: str,
    binarize: str | None,
    pixel_size: float | None,
    overwrite: bool,
    workers: int,
    address: str | None,
) -> "Result":
    """Score volumes of a run, decoded where they are scored."""
    from dataclasses import asdict

    from raydrgn.io.storage import checksum
    from raydrgn.occupancy.masked_sums import ScoreLatents
    from raydrgn.occupancy.scored_volumes import of_all, of_clusters, of_latents, sample_rows
    from raydrgn.occupancy.scoring import score, scored_latents
    from raydrgn.reporting.result_folder import ResultFolder

    state = opened.decoder(epoch, pixel_size_angstrom=pixel_size)
    known = pixel_size or opened.pixel_size_angstrom
    subunits.check_grid(
        subunits.box, known * opened.box / subunits.box, what=f"{opened.files.root}, in that box,"
    )
    if every:
        wanted = of_all(opened, epoch)
    elif ksample is not None:
        wanted = of_clusters(opened, epoch, ksample)
    else:
        wanted = of_latents(opened, epoch, z_file or "")
    z: np.ndarray = wanted.latents()
    folder = ResultFolder(out)
    folder.begin(
        settings
        | {
            "run": opened.files.root,
            "epoch": epoch,
            "ksample": ksample,
            "all": every,
            "latents": checksum(z.tobytes()),
            "options": asdict(options),
            "pixel_size": pixel_size,
        },
        overwrite=overwrite,
    )
    work = ScoreLatents(subunits, z, _thresholds(binarize, wanted))
    with (
        decoding(state, options, workers=workers, address=address) as pool,
        metering("volumes") as meter,
    ):
        _say_alignment(subunits, pool.volumes(z[sample_rows(len(z))]))
        progress = meter.callback("scoring")
        return score(wanted, subunits, scored_latents(work, pool), folder, progress=progress)


def _thresholds(binarize: str | None, wanted: "WantedVolumes") -> "np.ndarray | None":
    from raydrgn.occupancy.scored_volumes import read_thresholds

    return None if binarize is None else read_thresholds(binarize, wanted.names)


def _say_alignment(subunits: "SubunitSet", samples: "np.ndarray") -> None:
    """Say how well maps and model fit, before anything is scored."""
    import numpy as np

    from raydrgn.occupancy.alignment import alignment

    samples = samples[np.isfinite(samples).all(axis=(1, 2, 3))]
    if subunits.density is None or not len(samples):
        return
    found = alignment(samples, subunits.density, pixel_size_angstrom=subunits.pixel_size_angstrom)
    complaint = found.complaint()
    if complaint:
        messages.print(f"[bold yellow]warning:[/] {complaint}", highlight=False, soft_wrap=True)
    else:
        messages.print(
            f"the most mature of {len(samples)} volumes correlates with the model at "
            f"{found.correlation:.2f}{found.reservation()}",
            highlight=False,
            soft_wrap=True,
        )
