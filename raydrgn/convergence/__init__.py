"""Has training converged?

criteria          the heuristics of the protocol, and a rule for each
epochs            latents and losses through the epochs of a run
followed_volumes  volumes at representative points through the epochs
report            figures, tables and verdicts
"""
