"""A run against a known truth.

evaluation  per-image FSC and volumes of states
separation  how latents tell states apart
truth       what a simulation knows
report      all of it, to look at
"""
