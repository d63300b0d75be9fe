"""Particle stacks with known truth.

phantom       an assembling complex and two that move, as subunits of Gaussian atoms
model         the phantom as an atomic model, for programs that want one
ensemble      the volumes that particles are drawn from, and how often: of a phantom or of maps
acquisition   poses and optics of the particles
orientations  orientations that a real grid prefers
images        the forward model: projections, contrast transfer, noise
junk          images without a particle
options       what a simulation makes
dataset       a whole simulated data set on disk
"""
