"""One module per command: its settings, and ``run(settings, executor, progress)``.

Settings modules load nothing heavy; ``run`` imports what it needs. Command line, explorer,
notebooks, jobs and sweeps call these, and nothing else composes a study.

analyze            components, UMAP, clusters and volumes of an epoch
backproject        a map of particles with poses, to check them
clean              a run without weights that nobody needs
compare            labels of the same particles, cross-tabulated
convergence        whether training has converged
demo               simulation, training and evaluation in one
downsample         particle images, or a map, in a smaller box
embed              latents of other particles, by the encoder of a run
epoch              settings that workflows on one epoch share
evaluate           a run on simulated particles against the truth
explore            a run in the browser
export             selections and runs in the files of other programs
filter             a selection of particles
halves             trainings on half of the particles, to see what is real
info               what a file or a run contains
landscape          states and components in the space of volumes
maps               two maps correlated; a map of opposite hand or sign
montage            particle images as one picture
occupancy_classes  volume classes and structural blocks of a table of occupancies
occupancy_masks    masks and reference densities of subunits
occupancy_pca      components of volumes within one mask
occupancy_score    occupancies of subunits in volumes
parse              poses and CTF of a refinement
plot               the latent space coloured by any values or labels
relocate           where the particle images of a run are now
run_or_maps        settings that workflows on volumes of a run, or on a folder of maps, share
runs               the runs below a folder
select             particles drawn at random
simulate           particles with known truth
sweep              many trainings, to find the settings that suit the particles
train              the autoencoder, or a mixture of factor analysers
train_settings     its settings, and the run that they ask for
traverse           volumes along a path
volumes            maps at chosen latents
"""

from importlib import import_module
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """Load a workflow when it is first named, as in ``raydrgn.workflows.volumes.run``."""
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"there is no workflow {name!r}") from error
