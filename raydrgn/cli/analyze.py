"""``raydrgn analyze``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import end_with, result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import analyze as workflow
from raydrgn.workflows.analyze import AnalyzeSettings


@command(AnalyzeSettings)
def analyze(settings: AnalyzeSettings, executor: Executor, progress: Progress) -> None:
    """Analyse the latents of an epoch: components, UMAP, clusters, volumes, figures, a report.

    Writes RUN/analyze.N; of a file of latents, NAME.analyze beside it, without volumes. Volumes are
    shown as slices, each on its own grey scale and all on one, as isosurfaces at one level, and as
    numbers: peak, noise, the skewness that tells inverted contrast, and how far density outside
    the particle forms streaks; movie.gif goes along a component. UMAP is
    seeded; with more than 100,000 particles it is fitted on a sample of 100,000, and the
    coordinates of the others are interpolated from their five nearest neighbours in it (a million
    particles in 8 dimensions: about 3 minutes and 2 GB on two cores). A run in training can be
    analysed: its last finished epoch is taken. With another --ksample, its clusters are added
    beside the first; report and tables of particles are of the latest.
    """
    found = workflow.run(settings, executor=executor, progress=progress)
    num_volumes = sum(map(len, found.volumes.previews)) if found.volumes else 0
    result(
        f"{len(found.particles):,} particles, {settings.ksample} clusters, {num_volumes} volumes "
        f"→ {found.folder.at('report.html')}"
    )
    end_with(found.failures)
