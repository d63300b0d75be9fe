"""Columns of the table of what is estimated of each particle. Loads nothing heavy."""

COLUMNS = (
    "contrast",
    "null_probability",
    "shift_x_px",
    "shift_y_px",
    "rotation_x",
    "rotation_y",
    "rotation_z",
)
"""Of the table of particles: what ``ParticleEstimates`` holds, one number each."""
