"""What is learned from a run.

volumes      volumes of latents, on one process or on actors
evaluation   agreement with a known truth
"""
