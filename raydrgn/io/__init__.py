"""Files to arrays and tables, and back. No torch, no Ray.

storage     paths and URLs; whole files or none; errors in words
mrc         MRC headers, ranges of a stack, volumes
masks       masks in files, and their grids
star        STAR syntax
relion      RELION particle files to a ParticleTable
cryosparc   cryoSPARC .cs files to a ParticleTable
cryodrgn    cryoDRGN's pickles: poses, CTF, indices, latents
particles   ParticleTable, the one record of a data set
sources     any of these to one checked ParticleTable
"""
