"""Files to arrays and tables, and back. No torch, no Ray.

uri              names of files and folders: paths and URLs
storage          paths and URLs; whole files or none; errors in words
unfinished       what killed processes have left of files
presence         whether files and folders are there, and which names a folder has
local_files      names of unfinished local files, second names, devices and pipes
local_failures   errors of the operating system in words
object_store     clients of S3 and its like; what is repeated; their errors in words
file_ranges      ranges of open files: reserved, written and read whole
scratch          large files that a process keeps for itself
pipes            standard input and pipes in the place of files
filetypes        what a file is, from its first bytes; the text of text files
arrays           NumPy's .npy
pickles          pickles of arrays, and of nothing else
cells            cells of text tables as numbers
tables           text, CSV and Parquet of other programs
indices          numbers of particles, masks, labels
labels           clusters and classes from files of every kind
latents          latents from files of every kind
mrc              MRC headers, ranges of a stack, volumes
mrc_stacks       stacks of images written piece by piece
masks            masks in files, and their grids

particle_source  where a data set is
particles        ParticleTable, the one record of a data set
particle_checks  whether its values make sense
row_numbers      rows of particles that a caller has chosen
sources          any of the particle files to one checked ParticleTable
stacks           which stacks a particle file means; the order of its rows
half_sets        which half of a set a particle belongs to
imaging          what a particle file lacks, given by the user
pixel_sizes      particles of several pixel sizes in one frame
unmodelled       properties of images that are not modelled

star             STAR syntax
starrows         STAR files as their lines
relion           RELION particle files to a ParticleTable
relionwriter     a ParticleTable to a RELION particle file
relionrows       RELION particle files given back: rows of one, smaller images
cryosparc        cryoSPARC's .cs files to a ParticleTable
cryosparcrows    cryoSPARC's rows given back
passthrough      cryoSPARC's two files of one job, joined
micrographs      micrographs and coordinates of cryoSPARC's particles, for RELION
metadata         whichever of RELION's and cryoSPARC's files it is
cryodrgn         cryoDRGN's pickles: poses, CTF, latents

originals        the file that particles were read from, and its rows
selection        selections given back to RELION and cryoSPARC
matching         rows of an original that another program's selection holds
verification     exports read again before they are put in place
"""
