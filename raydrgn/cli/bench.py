"""``raydrgn bench``: throughput of this machine against its own limit."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from raydrgn.cli.console import console, metering, progress_display
from raydrgn.cli.options import Address

if TYPE_CHECKING:
    from raydrgn.bench.step import StepRate

bench = typer.Typer(help="Measure this machine against its own limit.", no_args_is_help=True)

Box = Annotated[int, typer.Option(help="Edge of the images in pixels.")]
Dim = Annotated[int, typer.Option(help="Width of encoder and decoder.")]
Layers = Annotated[int, typer.Option(help="Residual layers of each.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Particles per step.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="A setting of model or train."),
]


@bench.command("step")
def bench_step(
    box: Box = 64,
    dim: Dim = 256,
    layers: Layers = 3,
    batch_size: BatchSize = 32,
    amp: Annotated[bool, typer.Option("--amp/--no-amp", help="bfloat16 products on a GPU.")] = True,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; a GPU is taken if there is one.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; all cores by default.")
    ] = None,
    set_: Set = None,
) -> None:
    """Time the bare training step, beside the matrix products this machine can do.

    Needs neither Ray nor data. The step is the protocol's, with all Fourier points; see --set
    train.points_fraction=0.25.
    """
    import torch

    from raydrgn.bench import step

    if threads:
        torch.set_num_threads(threads)
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model, train = step.configs(
        set_ or [], width=dim, layers=layers, batch_size=batch_size, amp=amp
    )
    rate = step.measure(model, train, box=box, device=chosen)
    table = _table(f"training step, box {box}, {dim} × {layers}, batch {train.batch_size}")
    _add_step(table, rate)
    console.print(table)


@bench.command("train")
def bench_train(
    box: Box = 64,
    dim: Dim = 256,
    layers: Layers = 3,
    batch_size: BatchSize = 32,
    particles: Annotated[int, typer.Option(min=1, help="Particles per epoch.")] = 1500,
    workers: Annotated[int, typer.Option(min=1, help="Training processes.")] = 1,
    set_: Set = None,
    address: Address = None,
) -> None:
    """Time the whole training path through Ray, beside its bare step in one process.

    Simulates a stack, trains three epochs, and counts the second and third, the writing of latents
    and checkpoints included.
    """
    from raydrgn.bench import train
    from raydrgn.remote.executor import Executor
    from raydrgn.run.config import parse_assignment

    values: dict[str, Any] = {
        "model.encoder_width": dim,
        "model.decoder_width": dim,
        "model.encoder_layers": layers,
        "model.decoder_layers": layers,
        "train.batch_size": batch_size,
        "resources.num_workers": workers,
        **dict(map(parse_assignment, set_ or [])),
    }
    with progress_display() as progress, Executor(address=address) as executor:
        rate = train.measure(
            values, box=box, num_particles=particles, executor=executor, progress=progress
        )
    table = _table(f"training path, box {box}, {dim} × {layers}, batch {batch_size}")
    table.add_row("whole path", f"{rate.particles_per_s:,.0f} particles/s")
    table.add_row("… of the bare step", f"{100 * rate.share_of_step:.0f} %")
    _add_step(table, rate.step)
    console.print(table)


@bench.command("prepare")
def bench_prepare(
    box: Annotated[int, typer.Option(help="Edge of the images in pixels.")] = 320,
    small: Annotated[int, typer.Option("-D", help="Edge after downsampling.")] = 128,
    particles: Annotated[int, typer.Option(min=8, help="Images of the made-up stack.")] = 4000,
    folder: Annotated[str | None, typer.Option(help="Where to write; its disk is timed.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; all cores by default.")
    ] = None,
) -> None:
    """Time downsampling and back-projection beside the disk and the Fourier transforms alone.

    One process, without Ray; the stack is written into a temporary folder and deleted.
    """
    from raydrgn.bench import prepare
    from raydrgn.remote.resources import cores_here

    rates = prepare.measure(
        box=box,
        small=small,
        num_particles=particles,
        folder=folder,
        threads=threads or cores_here(),
    )
    table = _table(f"preparing {particles:,} images, {box} → {small} px, {rates.threads} threads")
    moved = rates.old_megabytes + rates.small_megabytes
    for name, rate, size in (
        ("downsample", rates.downsample, moved),
        ("limit of the disk: read and write", rates.disk, moved),
        ("limit of the transforms: there and back", rates.transforms, moved),
        ("backproject, one process", rates.backproject, rates.small_megabytes),
    ):
        table.add_row(name, f"{rate:,.0f} particles/s, {rate * size:,.0f} MB/s")
    table.add_row("downsample, of the slower limit", f"{100 * rates.share:.0f} %")
    table.add_row("largest memory of the process", f"{rates.memory_megabytes:,.0f} MB")
    table.add_row("… growth with four times the images", f"{rates.growth_megabytes:,.0f} MB")
    console.print(table)


@bench.command("volumes")
def bench_volumes(
    box: Box = 64,
    dim: Annotated[int, typer.Option(help="Width of the decoder.")] = 256,
    layers: Annotated[int, typer.Option(help="Residual layers of the decoder.")] = 3,
    volumes: Annotated[
        int, typer.Option(min=0, help="Volumes of the comparison of workers; 0: none.")
    ] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Workers, of one core each.")] = 2,
    address: Address = None,
) -> None:
    """Time decoding beside the matrix products this machine can do, and more workers beside one.

    An untrained decoder is timed; a trained one of the same size costs the same.
    """
    import torch

    from raydrgn.bench import volumes as decoding

    state = decoding.decoder_state(box, width=dim, layers=layers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rate = decoding.measure(state, device=device)
    table = _table(f"volumes, box {box}, {dim} × {layers}")
    table.add_row("device", f"{rate.device}, float32")
    table.add_row("one process", f"{rate.volumes_per_s:,.1f} volumes/s")
    table.add_row("arithmetic", f"{rate.flop_per_volume / 1e9:,.1f} GFLOP/volume")
    table.add_row("", f"{rate.flop_per_s / 1e9:,.0f} GFLOP/s")
    table.add_row("limit (one large product)", f"{rate.limit_flop_per_s / 1e9:,.0f} GFLOP/s")
    table.add_row("share of the limit", f"{100 * rate.share:.0f} %")
    table.add_row("half of the ball, of the time of the whole", f"{100 * rate.half_of_full:.0f} %")
    table.add_row("… largest difference, standard deviations", f"{rate.difference:.1e}")
    if volumes:
        with metering("volumes") as meter:
            pools = decoding.measure_pools(
                state,
                num_volumes=volumes,
                workers=workers,
                address=address,
                progress=meter.callback("decoding"),
            )
        table.add_row("1 worker", f"{pools.one:,.1f} volumes/s")
        table.add_row(f"{workers} workers", f"{pools.workers:,.1f} volumes/s")
        table.add_row("… of one worker", f"× {pools.speed_up:.2f}")
        table.add_row(
            "growth of a worker's memory after a tenth", f"{pools.growth_megabytes:,.0f} MB"
        )
    console.print(table)


@bench.command("occupancy")
def bench_occupancy(
    run: Annotated[str, typer.Argument(help="Trained run, of raydrgn or cryoDRGN.")],
    volumes: Annotated[int, typer.Option(min=100, help="Volumes to score.")] = 10_000,
    masks: Annotated[int, typer.Option(min=1, help="Made-up masks.")] = 100,
    box: Annotated[int, typer.Option(help="Edge of the volumes in pixels.")] = 64,
    workers: Annotated[int, typer.Option(min=1, help="Workers, of one core each.")] = 2,
    address: Address = None,
) -> None:
    """Time decoding and scoring of a run's volumes beside decoding alone.

    One worker and all of them in turn, then all volumes as `occupancy score` does it.
    """
    from raydrgn.bench import occupancy
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.run.reader import open_run

    opened = open_run(run)
    VolumeOptions(box=box).check(opened.box)
    with metering("volumes") as meter:
        rates = occupancy.measure(
            opened,
            num_volumes=volumes,
            num_masks=masks,
            box=box,
            workers=workers,
            address=address,
            progress=meter.callback("scoring"),
        )
    table = _table(f"occupancy, box {box}, {masks} masks")
    table.add_row("decoding alone, 1 worker", f"{rates.decode:,.1f} volumes/s")
    table.add_row("decoding and scoring, 1 worker", f"{rates.score:,.1f} volumes/s")
    table.add_row("… of decoding alone", f"{100 * rates.share:.0f} %")
    table.add_row(f"decoding and scoring, {workers} workers", f"{rates.workers:,.1f} volumes/s")
    table.add_row("… of one worker", f"× {rates.speed_up:.2f}")
    table.add_row(f"all {volumes:,} volumes, with tables", f"{rates.whole:,.1f} volumes/s")
    table.add_row(
        "growth of memory after a tenth: worker", f"{rates.worker_growth_megabytes:,.0f} MB"
    )
    table.add_row("… process with the table", f"{rates.own_growth_megabytes:,.0f} MB")
    console.print(table)


def _table(title: str) -> Table:
    table = Table(title=title, show_header=False)
    table.add_column("what")
    table.add_column("value", justify="right")
    return table


def _add_step(table: Table, rate: "StepRate") -> None:
    table.add_row("device", f"{rate.device}, {rate.precision}")
    table.add_row("bare step", f"{rate.particles_per_s:,.1f} particles/s")
    table.add_row("arithmetic", f"{rate.flop_per_particle / 1e9:,.3f} GFLOP/particle")
    table.add_row("", f"{rate.flop_per_s / 1e9:,.0f} GFLOP/s")
    table.add_row("limit (one large product)", f"{rate.limit_flop_per_s / 1e9:,.0f} GFLOP/s")
    table.add_row("share of the limit", f"{100 * rate.share:.0f} %")
