"""``raydrgn train``."""

import shlex
from typing import Annotated, Any

import typer

from raydrgn.cli.console import ask, console, metering, show_training
from raydrgn.cli.options import Address, Ctf, Datadir, Ind, Poses

EXIT_STOPPED = 130


def train(
    out: Annotated[str, typer.Option("-o", "--out", help="Run directory; a path or URL.")],
    particles: Annotated[
        str | None,
        typer.Argument(help=".mrcs, .txt, .star, .cs or .parquet; not needed with --resume."),
    ] = None,
    zdim: Annotated[int | None, typer.Option(help="Dimension of the latent; 8 by default.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; 20 by default.")] = None,
    poses: Poses = None,
    ctf: Ctf = None,
    ind: Ind = None,
    datadir: Datadir = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="fast (default), or protocol: the published rate, batch and points."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Particles per step over all workers.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    enc_layers: Annotated[int | None, typer.Option(help="Encoder layers; 3 by default.")] = None,
    enc_dim: Annotated[int | None, typer.Option(help="Encoder width; 256 by default.")] = None,
    dec_layers: Annotated[int | None, typer.Option(help="Decoder layers; 3 by default.")] = None,
    dec_dim: Annotated[int | None, typer.Option(help="Decoder width; 256 by default.")] = None,
    uninvert_data: Annotated[
        bool, typer.Option("--uninvert-data", help="Particles are dark on a bright background.")
    ] = False,
    drop_bad: Annotated[
        bool, typer.Option("--drop-bad", help="Leave out images that are not finite or constant.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Training processes.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    amp: Annotated[
        bool | None, typer.Option("--amp/--no-amp", help="bfloat16 products on GPUs that have it.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any setting of config.yaml."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the run directory.")
    ] = False,
    address: Address = None,
) -> None:
    """Train the variational autoencoder on particles with known poses.

    Writes the run directory: config.yaml, particles.parquet, and after every epoch weights.N.pkl
    and z.N.pkl. Ctrl-C keeps the state; the same command with --resume goes on.
    """
    from raydrgn.errors import ConfigError, RunDirectoryError
    from raydrgn.io import storage
    from raydrgn.io.particle_source import ParticleSource
    from raydrgn.remote.session import connected
    from raydrgn.run.config import parse_assignment
    from raydrgn.training import setup

    given: dict[str, Any] = {
        "model.zdim": zdim,
        "model.encoder_layers": enc_layers,
        "model.encoder_width": enc_dim,
        "model.decoder_layers": dec_layers,
        "model.decoder_width": dec_dim,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.learning_rate": lr,
        "train.seed": seed,
        "train.amp": amp,
        "resources.num_workers": workers,
        "data.invert": False if uninvert_data else None,
    }
    values = {name: value for name, value in given.items() if value is not None}
    values |= dict(map(parse_assignment, set_ or []))
    root = storage.absolute(out)
    source = particles and ParticleSource(
        particles=particles, poses=poses, ctf=ctf, ind=ind, datadir=datadir
    )
    request = setup.RunRequest(
        root=root, source=source or None, recipe=recipe, values=values, drop_bad=drop_bad
    )
    found = setup.find_run(root)
    if found is None:
        if source is None or not particles:
            raise ConfigError(
                f"{root} holds no run to go on with; name the particles to start one."
            )
        config, table = setup.begin(request)
    else:
        config, table = setup.resume(request, found)
        done = f"{found.epochs_done} of {config.train.epochs} epochs"
        if found.epochs_done >= config.train.epochs:
            console.print(f"{root} is finished: {done}. More: --resume --epochs N.")
            return
        if not resume and not ask(f"{root} holds this run, with {done} done. Go on with it?"):
            raise RunDirectoryError(
                f"{root} holds this run already, with {done} done. Add --resume to go on with it, "
                "or choose another -o."
            )
    setup.check_resources(config, address)
    with connected(address):
        from raydrgn.training import trainer  # Ray's settings are in place by now

        with metering("particles") as meter:
            ending = trainer.train(
                config, table, root, display=show_training(meter, config, len(table))
            )
    if not ending.finished:
        console.print(
            f"Stopped; the state is kept. Go on: raydrgn train -o {shlex.quote(out)} --resume"
        )
        raise typer.Exit(EXIT_STOPPED)
    console.print(f"{config.train.epochs} epochs of {len(table)} particles → {root}")
