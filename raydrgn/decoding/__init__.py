"""Volumes of latents.

options       what is done to volumes
pool          decoders, in this process or on workers
latent_input  latents that a user asks volumes of
volume_sets   sets of volumes on disk
"""
