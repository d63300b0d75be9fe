"""Analysis of a latent space.

analysis         components, clusters and paths along components
analysis_tables  its tables
analysis_report  its volumes, figures and report
paths            along components, straight, through neighbours
anchors          particles that a path visits
path_report      points, volumes and figures of a path
filters          methods that select particles
values           values of every particle by name
conditions       conditions on such values
mean_volumes     mean volume of a group of particles
filter_report    figures, images and mean volumes of a selection
"""
