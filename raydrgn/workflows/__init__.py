"""One module per command: its settings, and ``run(settings, executor, progress)``.

Settings modules load nothing heavy; ``run`` imports what it needs. Command line, explorer,
notebooks, jobs and sweeps call these, and nothing else composes a study.

epoch        settings that workflows on one epoch share
backproject  a map of particles with poses, to check them
demo         simulation, training and evaluation in one
downsample   particle images, or a map, in a smaller box
export       selections and runs in the files of other programs
info         what a file or a run contains
landscape    states and components in the space of volumes
parse        poses and CTF of a refinement
simulate     particles with known truth
volumes      maps at chosen latents
"""
