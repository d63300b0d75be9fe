"""Centred Fourier transforms, and what is done in Fourier space.

transforms   images to half discs of coefficients, half balls to volumes
resample     change of box size, low-pass filter
slices       central slices out of a volume
masks        soft masks: of maps, and balls
peaks        the peak of a density, and its contour level
density      peak, noise and sign of a volume
streaks      lines of density outside a particle
shells       Fourier shell correlation and radial sums
"""
