"""Names of columns as users read them: ``defocus_u_angstrom`` is "defocus U (Å)".

What a command is given, and what conditions name, are the names themselves.
"""

import re
from collections.abc import Sequence

from raydrgn.reporting.latent_plane import HEIGHTS

UNITS = {
    "angstrom": "Å", "deg": "°", "rad": "rad", "kv": "kV", "mm": "mm", "mrad": "mrad", "px": "px",
}  # fmt: skip
"""Units at the end of a name, as they are written."""

OWN = {
    "jitter": HEIGHTS,
    "z_norm": "|z|",
    "z_score": "|z|, SD above the mean",
    "original": "number in the original set",
    "particle": "row of the particle",
    "null_probability": "null probability",
    "optics_group": "optics group",
    "phase_flipped": "phases flipped",
    "ctf_premultiplied": "CTF premultiplied",
    "amplitude_contrast": "amplitude contrast",
    **{f"rotation_{axis}": f"rotation about {axis} (rad)" for axis in "xyz"},
}

RELION = {
    **{f"rlnDefocus{axis}": f"defocus {axis} (Å)" for axis in "UV"},
    "rlnDefocusAngle": "defocus angle (°)",
    "rlnPhaseShift": "phase shift (°)",
    **{f"rlnAngle{name}": f"{name.lower()} (°)" for name in ("Rot", "Tilt", "Psi")},
    **{f"rlnOrigin{axis}Angst": f"origin {axis.lower()} (Å)" for axis in "XY"},
    **{f"rln{name}{axis}": f"{name.lower()} {axis.lower()} (px)"
       for name in ("Origin", "Coordinate") for axis in "XY"},
    "rlnVoltage": "voltage (kV)",
    "rlnSphericalAberration": "spherical aberration (mm)",
    "rlnImagePixelSize": "pixel size (Å)",
    "rlnCtfMaxResolution": "resolution of the CTF fit (Å)",
}  # fmt: skip
"""Columns of STAR files that have a unit."""

CRYOSPARC = {
    "ctf/df1_A": "defocus 1 (Å)",
    "ctf/df2_A": "defocus 2 (Å)",
    "ctf/df_angle_rad": "defocus angle (rad)",
    "ctf/phase_shift_rad": "phase shift (rad)",
    "ctf/accel_kv": "voltage (kV)",
    "ctf/cs_mm": "spherical aberration (mm)",
    "alignments3D/class": "3D class",
    "alignments2D/class": "2D class",
}

KNOWN = {**OWN, **RELION, **CRYOSPARC}
NUMBERED = {"umap": "UMAP {}", "pc": "PC {}", "kmeans": "k-means of {}"}
"""Columns of `analyze`, by what stands before their number."""


def column_in_words(name: str) -> str:
    """Return what a column is called in a figure; a name that is not known stays as it is."""
    if name in KNOWN:
        return KNOWN[name]
    numbered = re.fullmatch(r"([a-z]+)(\d+)", name)
    if numbered and numbered[1] in NUMBERED:
        return NUMBERED[numbered[1]].format(numbered[2])
    command, dot, column = name.partition(".")
    if dot and command == "landscape":
        numbered_apart = re.sub(r"^component(\d+)$", r"component \1", column)
        return f"landscape {numbered_apart.replace('_', ' ')}"
    if dot and command == "occupancy":
        return "occupancy class" if column == "class" else f"occupancy of {column}"
    if re.fullmatch(r"rln[A-Z]\w*", name):
        words = re.findall(r"[A-Z]{2,}(?![a-z])|[A-Z][a-z]*|\d+", name[3:])
        return " ".join(word if word.isupper() else word.lower() for word in words)
    return _with_unit(name)


def clusters_in_words(name: str, values: Sequence[int | str]) -> str:
    """Return which clusters, classes or names of a column some particles have."""
    listed, words = ", ".join(map(str, values)), column_in_words(name)
    if re.fullmatch(r"kmeans\d+", name):
        return f"in cluster{'s' * (len(values) > 1)} {listed} of {words}"
    return f"{words} among {listed}" if len(values) > 1 else f"{words} = {listed}"


def _with_unit(name: str) -> str:
    """Return a name that ends in a unit in words; the axis of the defocus is a capital letter."""
    quantity, _, suffix = name.rpartition("_")
    if not quantity or suffix not in UNITS:
        return name
    words = quantity.replace("_", " ")
    if words in ("defocus u", "defocus v"):
        words = f"defocus {words[-1].upper()}"
    return f"{words} ({UNITS[suffix]})"
