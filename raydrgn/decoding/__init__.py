"""Volumes of latents.

contrast      whether a run has learned the negative of the particles
options       what is done to volumes
pool          decoders, in this process or on workers
latent_input  latents given by a user
chimerax      ChimeraX scripts of volumes
volume_sets   sets of volumes on disk
"""
