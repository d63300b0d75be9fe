"""``raydrgn simulate``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.remote.progress import Progress
from raydrgn.workflows import simulate as workflow
from raydrgn.workflows.simulate import SimulateSettings


@command(SimulateSettings)
def simulate(settings: SimulateSettings, progress: Progress) -> None:
    """Simulate a particle stack with known truth.

    Writes particles.mrcs (or chunks and particles.txt), particles.star, poses.pkl, ctf.pkl, and
    truth/ with the volume of each state and the state of each particle. Of a phantom it also
    writes the atomic model, truth/model.pdb, and its subunits, truth/subunits.yaml.

    With --contrast-sd, --angle-error, --shift-error or --defocus-error it also writes the true
    values: poses and defocus in truth/particles.parquet, contrast in truth/contrast.npy.
    """
    made = workflow.run(settings, progress=progress)
    result(f"{len(made.particles):,} particles of {settings.simulation.box} px → {made.out}")
