"""Occupancy of subunits: how much of each element of a model is there in each of many volumes.

table      the result: volumes × subunits, as MAVEn's CSV and as Parquet
models     atoms of PDB and mmCIF files
selection  which atoms make up a subunit
molmap     density of atoms at a resolution
masking    masks and reference densities on a map's grid
outlines   where they lie, on slices of the map
subunits   masks and reference densities of the subunits, from a folder
volumes    which volumes are scored: maps of a folder, latents of a run
alignment  whether maps and model are in one frame
scoring    masked sums, where the volumes are
parts      what a stopped command keeps
score      all of it in parallel
clustering      two-way Ward clustering of a table
cooperativity   correlations between subunits, and what chance explains
limits          expressions that select volumes
classes         volume classes and structural blocks of a table
membership      which particles are in which class
block_model     the atomic model by block
heat_map        the clustered heat map
class_figures, class_results, class_report   what is left of it all
voxel_pca, voxel_pca_report   principal components of volumes within one mask
"""
