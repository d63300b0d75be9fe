"""Particle images to the batches that training takes.

config      box, sign, window, normalisation
source      images of any rows of a ParticleTable, read in runs of consecutive slices
preprocess  images to prepared particles: windowed, normalised, centred Fourier coefficients
statistics  the normalisation, measured once
pipeline    Ray Data: prepared particles from tasks all over the cluster
store       where a worker keeps its prepared particles: device, host memory or local disk
shard       a worker's resident particles, and batches of them
"""
