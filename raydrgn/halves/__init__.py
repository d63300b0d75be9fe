"""Which differences between states are real: a run trained anew on each half of its particles.

splitting   the two halves of a run's particles, as runs of their own
states      states of a run, found again in the latent spaces of its halves
agreement   how volumes of the two halves agree, by shell and by region
components  components and states that the images of the other half support
comparison  the volumes of all states by both halves
report      tables, maps and figures of that
"""
