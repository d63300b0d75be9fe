"""``raydrgn demo``."""

import time
from typing import Annotated

import typer

from raydrgn.cli.console import clock, console, messages, metering, progress_display
from raydrgn.cli.evaluate import show_evaluation

PARTICLES, BOX, SNR = 5000, 32, 1.0
EPOCHS, DECODER_WIDTH = 30, 128
MAX_WORKERS = 2

NEXT = """raydrgn volumes {out}/run -o volumes --particles 0,17,42
raydrgn evaluate {out}/run --truth {out}/data/truth
raydrgn train your_particles.star -o run --zdim 8 --epochs 20"""


def demo(
    out: Annotated[str, typer.Option("-o", "--out", help="Folder to write.")] = "demo",
    seed: Annotated[int, typer.Option(help="Seed of simulation and training.")] = 0,
) -> None:
    """Simulate an assembling complex, train on it, and report how well its truth is recovered.

    Takes minutes on two cores. Writes particles and truth into OUT/data, the run into OUT/run, a
    volume of each state into OUT/volumes, and OUT/report.html, one file with all figures. Begun
    before, it goes on where it was.
    """
    from raydrgn.decoding import latent_input as requests
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.decoding.pool import decode_to_files
    from raydrgn.evaluation import evaluation
    from raydrgn.evaluation import report as truth_report
    from raydrgn.io import storage
    from raydrgn.io.particle_source import ParticleSource
    from raydrgn.remote.resources import Resources, cores_here
    from raydrgn.remote.session import allocated, connected
    from raydrgn.run.reader import open_run
    from raydrgn.run.status import find_run
    from raydrgn.simulation.dataset import Simulation, simulate
    from raydrgn.training import prepare_run

    began = time.monotonic()
    data, root = storage.join(out, "data"), storage.absolute(storage.join(out, "run"))
    truth = storage.join(data, "truth")
    workers = min(cores_here(), MAX_WORKERS)
    request = prepare_run.RunRequest(
        root=root,
        source=ParticleSource(particles=storage.absolute(storage.join(data, "particles.star"))),
        values={
            "train.epochs": EPOCHS,
            "train.seed": seed,
            "model.decoder_width": DECODER_WIDTH,
            "resources.num_workers": workers,
        },
    )
    found = find_run(root)
    if found is None:
        _say(1, f"simulating {PARTICLES:,} particles of seven states; one is rare, one moves")
        simulation = Simulation(num_particles=PARTICLES, box=BOX, snr=SNR, seed=seed)
        with metering("particles") as meter:
            simulate(data, simulation, progress=meter.callback("simulating"))
    run = prepare_run.begin(request) if found is None else prepare_run.resume(request, found)

    with connected(None):
        if found is None or not found.is_finished:
            from raydrgn.training import trainer

            _say(2, f"training {EPOCHS} epochs with {workers} workers; they take a while to start")
            with progress_display() as progress:
                ending = trainer.train(run, progress=progress)
            if not ending.finished:
                console.print("Stopped; the state is kept, and the same command goes on.")
                raise typer.Exit(130)

        opened = open_run(root)
        _say(3, "comparing with the truth")
        result = evaluation.evaluate(opened, truth)

        _say(4, "decoding a volume of each state")
        latents = opened.latents(result.epoch)[[state.particle for state in result.states]]
        wanted = requests.write_latents(storage.join(out, "volumes"), latents)
        with metering("volumes") as meter, allocated(Resources(cpus=1), None) as allocation:
            done = 0
            for outcome in decode_to_files(
                wanted,
                state=opened.decoder(result.epoch),
                options=VolumeOptions(),
                allocation=allocation,
            ):
                if outcome.error:
                    raise outcome.error
                done += len(outcome.item)
                meter.show("decoding", done, len(wanted))

    _say(5, "drawing the report")
    report = storage.absolute(storage.join(out, "report.html"))
    with metering("parts") as meter:
        truth_report.write_truth_report(
            report,
            opened,
            truth,
            result,
            title="raydrgn demo: an assembling complex",
            commands=NEXT.format(out=out),
            progress=meter.callback("report"),
        )
    show_evaluation(out, result)
    console.print(truth_report.verdict(result), highlight=False)
    console.print(f"{clock(time.monotonic() - began)} → {report}", highlight=False, soft_wrap=True)


def _say(number: int, what: str) -> None:
    messages.print(f"{number}/5 {what}", highlight=False)
