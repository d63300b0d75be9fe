"""``raydrgn embed``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.remote.progress import Progress
from raydrgn.workflows import embed as workflow
from raydrgn.workflows.embed import EmbedSettings


@command(EmbedSettings)
def embed(settings: EmbedSettings, progress: Progress) -> None:
    """Encode particles that a run has not seen: their latents, and how well each image fits.

    Writes z.pkl, a file of latents for `analyze`, `filter` and cryoDRGN, and particles.parquet with
    the reconstruction error, the correlation with what is decoded, and the KL divergence of each
    image.
    """
    found = workflow.run(settings, progress=progress)
    result(f"{len(found.particles):,} particles, epoch {found.epoch} → {found.folder.uri}")
