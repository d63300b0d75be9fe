"""A run against a known truth.

truth         the truth about simulated particles
evaluation    per-image FSC and volumes of states
separation    how well latents separate the states
volume_pairs  decoded volumes beside the true ones
results       files of an evaluation
report        figures and report
"""
