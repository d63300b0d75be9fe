"""Occupancy of subunits: how much of each element of a model is there in each of many volumes.

table      the result: volumes × subunits, as MAVEn's CSV and as Parquet
subunits   masks and reference densities of the subunits, from a folder
volumes    which volumes are scored: maps of a folder, latents of a run
alignment  whether maps and model are in one frame
scoring    masked sums, where the volumes are
parts      what a stopped command keeps
score      all of it in parallel
"""
