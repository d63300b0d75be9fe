"""Occupancy of subunits: how much of each element of a model is present in each of many volumes.

options         how masks are made, and how occupancies are clustered

atomic_models   atoms of PDB and mmCIF files
selection       which atoms make up a subunit
molmap          density of atoms at a resolution
masking         masks and reference densities on the grid of a map
mask_figure     their outlines on slices of the map
alignment       whether maps and model are in one frame
fitting         the rigid motion that takes a model into a map
model_fit       that motion of the models of a command, where the correlation gains by it

subunits        masks and reference densities, read from a folder
scored_volumes  which volumes are scored: maps of a folder, latents of a run
masked_sums     sums of volumes within masks, where the volumes are
partial_scores  scores that an interrupted command keeps
scoring         many volumes in parallel
table           the result: volumes × subunits, as MAVEn's CSV and as Parquet

scored_table    a table with its run, and what of it is clustered
table_origin    the run or the maps that a table was scored from
clustering      scaling, Ward trees, and where they are cut
cooperativity   correlations of subunits, and which of them are significant
classes         volume classes and structural blocks of a table
membership      which particles are in which class
centroids       the centroid volume of each class
block_model     the structural block of each atom
class_tables    tables and lists of particles, as files
colours         colours of occupancies, classes and blocks
heat_map        the clustered heat map
class_figures   figures of classes and blocks
class_report    their report
"""
