"""Occupancy of subunits: how much of each element of a model is there in each of many volumes.

table      the result: volumes × subunits, as MAVEn's CSV and as Parquet
"""
