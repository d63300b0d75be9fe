"""One module per command: its settings, and ``run(settings, executor, progress)``.

Settings modules load nothing heavy; ``run`` imports what it needs. Command line, explorer,
notebooks, jobs and sweeps call these, and nothing else composes a study.

convergence    whether training has converged
epoch          settings that workflows on one epoch share
evaluate       a run on simulated particles against the truth
landscape      states and components in the space of volumes
occupancy_pca  components of volumes within one mask
volumes        maps at chosen latents
"""
