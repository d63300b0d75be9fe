"""One module per command: its settings, and ``run(settings, executor, progress)``.

Settings modules load nothing heavy; ``run`` imports what it needs. Command line, explorer,
notebooks, jobs and sweeps call these, and nothing else composes a study.

epoch      settings that workflows on one epoch share
landscape  states and components in the space of volumes
volumes    maps at chosen latents
"""
