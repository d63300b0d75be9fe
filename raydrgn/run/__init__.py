"""One run, on disk.

directory           every file name of a run
config              everything that decides the result, as config.yaml
recipe              objective, optimiser, and named sets of values for them
status              how far a run is
listing             the runs below a folder
manifest            what is finished, with sizes and checksums
surplus             weights of epochs that need not be kept
checkpoint          what is needed to resume, as bytes
claim               which command trains a run
claim_watch         whether a command still has a run
writer              the only writer of a run directory
metrics             losses over the steps
lines               text files to which lines are appended
weights             a decoder without its run; the tensors of a weights file
mixture             the model of a mixture of factor analysers
estimates           what is estimated of each particle beside its latent
same_particles      which particles of one file are which of another
refined_poses       particles with refined poses, and their rows in a run
relocation          where the particle images of a run are, when they have moved
reader              a run of raydrgn or cryoDRGN, opened for reading
next_commands       commands for some particles of a run, filled in
latents_file        a file of latents in the place of a run
identity            what results are made from
project_steps       which results of a project's steps are those of its latest call
cryodrgn_config     what the configuration of a run of cryoDRGN says
cryodrgn_particles  particles of such a run
cryodrgn_export     a run in the layout of cryoDRGN
export_record       what an export has written, so that it replaces nothing else
"""
