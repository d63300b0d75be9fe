"""Ray Train: fitting the network.

config       objective, optimiser, recipes
schedule     learning rate over steps
plan         which particles, noise and points each step takes; a pure function of the seed
step         losses of a batch, and one step of the optimiser
loop         epochs from a state to the end, on one process of any number
checkpoints  the actor that alone writes the run directory
worker       what Ray Train runs on each worker
trainer      the driver: resources, retries, progress
"""
