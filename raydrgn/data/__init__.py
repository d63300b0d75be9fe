"""Particle images to the batches that training takes.

config            box, sign, window, normalisation
source            images of any rows of a ParticleTable, read in ranges of consecutive slices
restoration       images as the microscope recorded them, from images that another program changed
preprocess        images to prepared particles: windowed, normalised, centred Fourier coefficients
image_statistics  statistics of single images: which cannot be used, and which are outliers
statistics        the scale of the images, measured once
particle_images   phase-flipped, low-pass filtered images, for people
pipeline          Ray Data: prepared particles from tasks all over the cluster
ingest            every particle read and prepared once, into a shard
node_shard        prepared particles of a node, for all processes on it
host_memory       how much memory of the host may still be taken
store             where a worker keeps its prepared particles: device, host memory or local disk
streaming         batches from the host to a GPU, one ahead
shard             a worker's resident particles, and batches of them
batch             what one training step takes of some particles
"""
