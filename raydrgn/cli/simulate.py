"""``raydrgn simulate``."""

from typing import Annotated

import typer

from raydrgn.cli.console import console, metering


def simulate(
    out: Annotated[str, typer.Argument(help="Folder to write; created if it is not there.")],
    particles: Annotated[int, typer.Option(min=1, help="Number of images.")] = 6000,
    box: Annotated[int, typer.Option(help="Edge of the images in pixels; even.")] = 32,
    snr: Annotated[float, typer.Option(help="Variance of the signal over that of noise.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of poses, defocus, states and noise.")] = 0,
    maps: Annotated[
        str | None, typer.Option(help="Pattern of .mrc maps to take as states; quote it.")
    ] = None,
    phantom: Annotated[
        str, typer.Option(help="Built-in phantom: assembly (states) or hinge (motion).")
    ] = "assembly",
    junk: Annotated[
        float, typer.Option(help="Share of images without a particle: ice, and carbon edges.")
    ] = 0.0,
    chunk: Annotated[int, typer.Option(min=0, help="Images per stack; 0 writes a single one.")] = 0,
) -> None:
    """Simulate a particle stack with known truth.

    Writes particles.mrcs (or chunks and particles.txt), particles.star, poses.pkl, ctf.pkl and
    truth/ with the volume of each state and the state of each particle; of a phantom also its
    subunits as the chains of model.pdb, with their names in subunits.yaml.
    """
    from raydrgn.simulation import dataset

    simulation = dataset.Simulation(
        num_particles=particles,
        box=box,
        snr=snr,
        seed=seed,
        maps=maps,
        phantom=phantom,
        chunk=chunk,
        junk=junk,
    )
    with metering("particles") as meter:
        table = dataset.simulate(out, simulation, progress=meter.callback("simulating"))
    console.print(f"{len(table)} particles of {box} px → {out}", highlight=False)
