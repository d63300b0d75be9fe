"""Throughput of this machine beside its own limits.

settings      settings of all benchmarks
step          the bare training step; needs torch, NumPy, Typer and Rich only
synthetic_steps    training steps on synthetic particles
gpu           what a GPU does, in one run
gpu_rates     what was measured of it
em            passes of a mixture of factor analysers
train         the whole path: simulation, Ray Train, run directory
scaling       a step as workers are added
exchange      what workers exchange in a step, and what follows for GPUs
worker_steps  steps of some workers of a group, with and without their exchange
run_parts     what a run costs beside its steps
prepare       downsampling and back-projection
reading       a stack on a store, beside one plain request
particles     what grows with the number of particles
volumes       decoding, and several workers beside one
occupancy     scoring of occupancies
explore       the explorer with many particles
own_process   a measurement in a fresh process
workers       workers of one core each, that compare whatever their number
tables        what was measured, as rows of a table
"""
