"""A mixture of factor analysers over volumes, fitted by expectation maximisation.

The model is y = a·C·P (V₀ + Σ_k z_k V_k) + noise with a mixture of normal distributions as the
prior of z; see docs/mfa.md. Knows neither Ray nor files of runs.

config         settings
kernels        slices of Fourier grids and their adjoint, compiled for CPUs
simd           eight numbers at a time, in compiled functions
interpolation  the same on any device
slice_grid     the grid that slices are taken of, in memory or in slabs of a file
grids          volumes and their Fourier grids
images         images at some Fourier points, in units of the noise
mixture        the prior of the latents, and its fit
blocks         work on particles for each reading of that grid
posterior      latent, contrast and junk of an image
poses          shifts and rotations of images
columns        columns of the table of what is estimated
particles      what is estimated of each particle
expectation    a pass over particles
sums           what a pass adds up
noise          of images and junk, by what a pass adds up
contrast       contrast and latent kept apart, by what a pass adds up
pose_slope     poses and latent kept apart, likewise
update         the maximisation step
support        the mask
held_out       components and states that other images support
model          the state of a fit
likelihood     of a model over all particles
latents        what latents show of the components
concerns       what a person should know about a fit
workers        the particles of one worker, and random choices
memory         what a fit takes beside them
start          noise, mean and contrasts to start from
left_out       what a mean explains of images that it was not made from
trials         rotations and shifts tried one by one
search         a coarse search of poses that are far off
fit            which passes there are
"""
