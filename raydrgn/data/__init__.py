"""Particle images to the batches that training takes.

config            box, sign, window, normalisation
source            images of any rows of a ParticleTable, read in runs of consecutive slices
restoration       images as the microscope recorded them: phases, CTF, beam tilt
preprocess        images to prepared particles: windowed, normalised, centred Fourier coefficients
image_statistics  of single images; which cannot be used, and which are outliers
statistics        the scale of the images, measured once
ingest            a shard filled by one process
batch             what one training step takes
particle_images   images as a person can see the particle
pipeline          Ray Data: prepared particles from tasks all over the cluster
store             where a worker keeps its prepared particles: device, host memory or local disk
shard             a worker's resident particles, and batches of them
"""
