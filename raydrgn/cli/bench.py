"""``raydrgn bench``: throughput of this machine beside its own limits."""

import typer

from raydrgn.bench import tables
from raydrgn.bench.settings import (
    DecodingBenchSettings,
    EmSettings,
    ExchangeSettings,
    ExploreBenchSettings,
    GpuSettings,
    OccupancyBenchSettings,
    ParticlesSettings,
    PreparationSettings,
    ScalingSettings,
    StepSettings,
    TrainingSettings,
)
from raydrgn.cli.command import command
from raydrgn.cli.exit_codes import EXIT_FAILED
from raydrgn.cli.tables import show_facts
from raydrgn.remote.progress import Progress

bench = typer.Typer(help="Measure this machine beside its own limits.", no_args_is_help=True)


@bench.command("step")
@command(StepSettings)
def bench_step(settings: StepSettings) -> None:
    """Time the bare training step, beside the matrix products this machine can do.

    Needs neither Ray nor data. The step is the protocol's, with all Fourier points; see --set
    train.points_fraction=0.25.
    """
    from raydrgn.bench import step

    rate = step.run(settings)
    show_facts(_title("training step", settings), tables.step_rows(rate), numbers=True)


@bench.command("gpu")
@command(GpuSettings)
def bench_gpu(settings: GpuSettings, progress: Progress) -> None:
    """Time steps, the whole training path and volumes on a GPU, for several boxes and networks.

    The table of docs/performance.md. All of it takes an hour or more; --box and --dim choose parts.
    Each figure is logged when it is measured. A command that is stopped prints the table of those
    that were, and one that fails does not end the others: the code is 1 then. cryoDRGN is timed on
    the same data where it is installed. Without Ray, steps and volumes alone are timed.
    """
    from raydrgn.bench import gpu

    rates = gpu.rates_of_gpu()
    try:
        gpu.run(settings, rates, progress=progress)
    finally:
        show_facts(rates.device, tables.gpu_rows(rates), numbers=True)
    if rates.has_failures:
        raise typer.Exit(EXIT_FAILED)


@bench.command("em")
@command(EmSettings)
def bench_em(settings: EmSettings) -> None:
    """Time the passes of `train --method mfa`, beside this machine's memory bandwidth.

    Needs neither Ray nor data. Grids that fit a cache can be faster than the limit, which is one
    large copy.
    """
    from raydrgn.bench import em

    title = f"passes, box {settings.box}, {settings.components} components"
    show_facts(title, tables.em_rows(em.run(settings)), numbers=True)


@bench.command("train")
@command(TrainingSettings)
def bench_train(settings: TrainingSettings, progress: Progress) -> None:
    """Time the whole training path through Ray, beside its bare step in one process.

    Simulates a stack, trains three epochs, and counts the second and third, the writing of latents
    and checkpoints included.
    """
    from raydrgn.bench import train

    rate = train.run(settings, progress=progress)
    show_facts(_title("training path", settings), tables.training_rows(rate), numbers=True)


@bench.command("scaling")
@command(ScalingSettings)
def bench_scaling(settings: ScalingSettings) -> None:
    """Time a training step on 1, 2, 4, … workers, and what a run costs beside its steps.

    Each worker has one core, or one GPU, and as many particles per step whatever their number. See
    docs/scaling.md for what follows from the numbers.
    """
    from raydrgn.bench import scaling

    rates = scaling.run(settings)
    rows = tables.scaling_rows(rates, batch_size=settings.batch_size)
    show_facts(_title("scaling", settings), rows, numbers=True)


@bench.command("exchange")
@command(ExchangeSettings)
def bench_exchange(settings: ExchangeSettings) -> None:
    """Count what GPUs would exchange in a training step, by processes that stand for them.

    Needs neither Ray nor a GPU. The steps are those of a GPU, taken on CPUs. How many particles
    each GPU needs in a step is modelled, for links and a rate that are named; see docs/scaling.md.
    """
    from raydrgn.bench import exchange

    rows = tables.exchange_rows(exchange.run(settings))
    show_facts(_title("exchange", settings), rows, numbers=True)


@bench.command("prepare")
@command(PreparationSettings)
def bench_prepare(settings: PreparationSettings) -> None:
    """Time downsampling and back-projection beside the disk and the Fourier transforms alone.

    One process, without Ray; the stack is written into a temporary folder and deleted. With an
    s3:// URL as --folder, reading the stack from there is timed beside one plain request for it.
    """
    from raydrgn.bench import reading

    rates = reading.run_prepare(settings)
    show_facts(rates.title, tables.preparation_rows(rates), numbers=True)


@bench.command("particles")
@command(ParticlesSettings)
def bench_particles(settings: ParticlesSettings) -> None:
    """Time what grows with the number of particles: table, plan, latents, preparing images.

    Each part in a process of its own, without Ray; what is written goes into a temporary folder and
    is deleted.
    """
    from raydrgn.bench import particles

    parts = particles.run(settings)
    show_facts(f"{settings.num_particles:,} particles", tables.particle_rows(parts), numbers=True)


@bench.command("volumes")
@command(DecodingBenchSettings)
def bench_volumes(settings: DecodingBenchSettings, progress: Progress) -> None:
    """Time decoding beside the matrix products this machine can do, and more workers beside one.

    An untrained decoder is timed; a trained one of the same size costs the same.
    """
    from raydrgn.bench import volumes

    rate, whole, pools = volumes.run(settings, progress=progress)
    rows = tables.decoding_rows(rate) + tables.whole_rows(whole)
    if pools is not None:
        rows += tables.pool_rows(pools, workers=settings.workers)
    title = f"volumes, box {settings.box}, {settings.width} × {settings.layers}"
    show_facts(title, rows, numbers=True)


@bench.command("occupancy")
@command(OccupancyBenchSettings)
def bench_occupancy(settings: OccupancyBenchSettings, progress: Progress) -> None:
    """Time decoding and scoring of a run's volumes beside decoding alone.

    One worker and all of them in turn, then all volumes as `occupancy score` does it.
    """
    from raydrgn.bench import occupancy

    rates = occupancy.run(settings, progress=progress)
    rows = tables.occupancy_rows(rates, num_volumes=settings.num_volumes, workers=settings.workers)
    show_facts(f"occupancy, box {settings.box}, {settings.num_masks} masks", rows, numbers=True)


@bench.command("explore")
@command(ExploreBenchSettings)
def bench_explore(settings: ExploreBenchSettings, progress: Progress) -> None:
    """Time the explorer with many particles: its start, what it sends, a selection with the lasso.

    Starts it on a temporary file of made-up latents, and asks what the page asks. Where Chromium
    and playwright are installed, the page is drawn there too.
    """
    from raydrgn.bench import explore

    rates = explore.run(settings, progress=progress)
    rows = tables.explore_rows(rates)
    show_facts(f"explorer, {settings.num_particles:,} particles", rows, numbers=True)


def _title(
    what: str, settings: StepSettings | TrainingSettings | ScalingSettings | ExchangeSettings
) -> str:
    network = f"{settings.width} × {settings.layers}"
    return f"{what}, box {settings.box}, {network}, batch {settings.batch_size}"
