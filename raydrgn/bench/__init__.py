"""Throughput of this machine against its own limit.

step    the bare training step; needs torch, NumPy, Typer and Rich only
train   the whole path: simulation, Ray Train, run directory
"""
