"""One module per command: its settings, and ``run(settings, executor, progress)``.

Settings modules load nothing heavy; ``run`` imports what it needs. Command line, explorer,
notebooks, jobs and sweeps call these, and nothing else composes a study.

analyze    components, UMAP, clusters and volumes of an epoch
epoch      settings that workflows on one epoch share
filter     a selection of particles
landscape  states and components in the space of volumes
traverse   volumes along a path
volumes    maps at chosen latents
"""
