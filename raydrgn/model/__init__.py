"""The variational autoencoder: architecture only; no loss over data, optimiser, device or log.

config       shape of the network
device       a GPU that torch can use, else CPUs
layers       residual multilayer perceptrons
positional   positional encodings of Fourier points
encoder      image to mean and log-variance of its latent
decoder      Fourier points and latent to coefficients
vae          encoder, sampling and decoder in one forward pass
loss         reconstruction error and KL divergence
linear       a decoder without a network: mean and components
volume       the decoder on a ball of points: real-space density
"""
