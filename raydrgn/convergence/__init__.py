"""Has training converged?

criteria          the heuristics of the protocol, and a rule for each
epochs            latents and losses through the epochs of a run
point_comparison  volumes of one representative point through the epochs
volumes           volumes of all points, with finished points kept
schedule          what the learning-rate schedule still has to do
verdict           which criteria have converged
report            figures, tables and report
"""
