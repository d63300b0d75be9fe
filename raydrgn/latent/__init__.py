"""Analysis of a latent space.

analysis          components, clusters and paths along components
analysis_tables   its tables
analysis_report   its volumes, figures and report
mask_report       the mask of a mixture, and the density within it
volume_densities  peak, noise and sign of its volumes
volume_surfaces   isosurfaces of its volumes, and movies of paths
paths             along components, straight, through neighbours
anchors           particles that a path visits
path_report       points, volumes and figures of a path
options           how particles are selected, and paths spaced
selection         the methods that are chosen, applied to the particles of an epoch
filters           methods that select particles
mean_volumes      mean volume of a group of particles
command_results   what other commands have made of the epoch
values            values of every particle by name
column_words      what columns are called in figures
own_labels        labels that a user gives, of any kind of file
numeric_values    those of them that conditions and colours take
conditions        conditions on values, as the explorer saves them
groups_report     clusters or components, shown before anything is dropped
filter_report     figures, images and mean volumes of a selection
"""
