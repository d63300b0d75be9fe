"""Ray Train: fitting the network, or a mixture of factor analysers.

options          what a training process is given
held_out         particles kept out of training
prepare_run      from settings to a checked run, before Ray starts
checks           what particles and settings must be like
new_config       the configuration of a new run: method, recipe, weights
initial_weights  weights to start from, of an epoch of another run
mixture_latents  latents of a mixture of factor analysers, for a new encoder
pretraining      supervised training of the encoder on these, before the first epoch
optimiser        Adam, the same on every device
plan             which particles, noise and points each step takes; a pure function of the seed
schedule         learning rate over steps
memory           what to do where memory is too small
step             losses of a batch, and one step of the optimiser
prefetch         what many steps take, sent to the device at once
gpu_memory       what a step needs of a GPU, what the card has, and who else holds some
gradients        how workers add up the gradients of steps of fixed shapes
fixed_step       a step whose shapes never change, and its capture as a CUDA graph
steps            the steps of an epoch, as they come or of fixed shapes
loop             epochs from a checkpoint to the end, on one process of any number
em_loop          the same for a mixture of factor analysers
collectives      what the workers of such a fit exchange
reduction        losses of all workers, added up about once a second
progress_log     how far training is, as numbers and as a line of run.log
sinks            where a loop sends its results: a writer in this process
assembly         plan, particles and loop put together, and where a checkpoint left them
beginning        what is written before training, and the last line of the log
in_process       training by one worker in this process, without Ray
actor_sink       where a loop on Ray sends its results: the run's actors
failures         lost peers, too little memory, defects
budget           how often a run may fail
elastic          how many workers there is room for
actors           the run's writer and progress board, and the guard that watches them
attempts         Ray Train, started again after each loss or change
encoding         latents of other particles, and how well each fits
disk_room        whether the weights of the epochs fit on the disk
sharing          prepared particles that several runs on a node share
worker           what Ray Train runs on each worker
worker_group     what Ray Train gives its workers, and how they exchange gradients
trainer          the driver: what is written first and last, progress, requests to stop
start            where a prepared run is trained: in this process or on Ray
result           how a command's part of a run ended
"""
