"""The space of volumes: components, states, and the density of particles.

options         choices of a landscape
components      principal components of volumes within a mask
volume_store    volumes in a temporary file
states          mask, states and their maps
sketch          on-data volumes with their components and states
regression      from latents to coordinates of volumes
particles       coordinates of all particles
free_energy     density of particles over two components
results         maps and tables of a landscape
report          figures and report of a landscape
masked_volumes  voxels of volumes within one mask
masked_results  maps and tables of components within one mask
masked_report   their figures and report
"""
