"""Phantoms: complexes of subunits made of Gaussian atoms, some of which move.

Lengths are in Å about the centre of the box. The assembly is a core to which blocks bind, about the
size of a large ribosomal subunit (diameter 230 Å), with a stalk that swings; the hinge is a body
with an arm that opens and closes; the swing is a body with a domain that moves by several times its
own size.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from raydrgn.shapes import Float

ATOM_SIGMA_ANGSTROM = 5.0
MIN_SIGMA_PX = 0.7  # below this a Gaussian has power beyond Nyquist
LARGEST_EXPONENT = 8 * np.log(10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subunit:
    """A blob of atoms within an ellipsoid."""

    name: str
    centre_angstrom: tuple[float, float, float]
    radii_angstrom: tuple[float, float, float]
    num_atoms: int
    moves: bool = False
    """Whether it turns about the phantom's axis."""


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """One composition of a phantom, and how many of the particles are in it."""

    name: str
    subunits: tuple[str, ...]
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Phantom:
    """Subunits, the states they form, and a rotation that some of them go through."""

    subunits: tuple[Subunit, ...]
    states: tuple[State, ...]
    pivot_angstrom: tuple[float, float, float]
    axis: tuple[float, float, float]
    angles_deg: tuple[float, float]
    """Range of the motion; the middle is the position at rest."""

    num_frames: int
    """Volumes that sample the motion, evenly."""

    @property
    def rest_deg(self) -> float:
        """Angle of the position at rest."""
        return float(np.mean(self.angles_deg))

    def frame_angles(self) -> Float[np.ndarray, " frames"]:
        """Return the angle of each frame of the motion, in degrees."""
        return np.linspace(*self.angles_deg, self.num_frames)

    def atoms(self, state: State, *, angle_deg: float) -> Float[np.ndarray, "n 3"]:
        """Return the atoms (x, y, z) of a state at one angle of its motion, in Å."""
        return np.concatenate(
            [
                self.subunit_atoms(number, angle_deg=angle_deg)
                for number, subunit in enumerate(self.subunits)
                if subunit.name in state.subunits
            ]
        )

    def subunit_atoms(self, number: int, *, angle_deg: float) -> Float[np.ndarray, "n 3"]:
        """Return the atoms (x, y, z) of one subunit at one angle of the motion, in Å."""
        subunit = self.subunits[number]
        positions = _fill(subunit, seed=number)
        if not subunit.moves:
            return positions
        turn = Rotation.from_rotvec(np.array(self.axis) * angle_deg, degrees=True)
        pivot = np.array(self.pivot_angstrom)
        return turn.apply(positions - pivot) + pivot

    def moving(self, state: State) -> bool:
        """Return whether a state contains a subunit that moves."""
        return any(s.moves and s.name in state.subunits for s in self.subunits)


def _fill(subunit: Subunit, *, seed: int) -> Float[np.ndarray, "n 3"]:
    """Place a subunit's atoms in its ellipsoid, the same way every time."""
    generator = np.random.default_rng(seed)
    direction = generator.normal(size=(subunit.num_atoms, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    distance = generator.uniform(size=(subunit.num_atoms, 1)) ** (1 / 3)
    return direction * distance * subunit.radii_angstrom + np.array(subunit.centre_angstrom)


def render(
    atoms: Float[np.ndarray, "n 3"], *, box: int, pixel_size_angstrom: float
) -> Float[np.ndarray, "d d d"]:
    """Return the density of Gaussian atoms on a grid, without aliasing.

    The transform of a Gaussian at r, exp(−2π²σ²s² − 2πi s·r), is a product over the axes, so the
    sum over atoms is a matrix product. σ is 5 Å, or 0.7 pixels where those are larger. Frequencies
    at which the Gaussian has less than 10⁻⁸ of its peak stay empty; below 130 px there are none.
    """
    sigma = max(ATOM_SIGMA_ANGSTROM, MIN_SIGMA_PX * pixel_size_angstrom)
    s = np.arange(-(box // 2), box // 2) / (box * pixel_size_angstrom)  # 1/Å
    exponent = 2 * (np.pi * sigma * s) ** 2
    kept = np.flatnonzero(exponent < LARGEST_EXPONENT)
    x, y, z = (
        np.exp(-exponent[kept] - 2j * np.pi * np.outer(position, s[kept])) for position in atoms.T
    )  # (n kept) each
    spectrum = np.zeros((box, box, box), dtype=complex)
    within = slice(kept[0], kept[-1] + 1)
    spectrum[within, within, within] = np.einsum(
        "nz,nyx->zyx", z, y[:, :, None] * x[:, None, :], optimize=True
    )
    volume = np.fft.ifftn(np.fft.ifftshift(spectrum)).real
    return np.fft.fftshift(volume).astype(np.float32)


ASSEMBLY = Phantom(
    subunits=(
        Subunit(
            name="core", centre_angstrom=(0, 0, -15), radii_angstrom=(62, 50, 42), num_atoms=220
        ),
        Subunit(
            name="head", centre_angstrom=(0, 15, 58), radii_angstrom=(42, 36, 36), num_atoms=110
        ),
        Subunit(
            name="left", centre_angstrom=(-84, 20, 12), radii_angstrom=(34, 38, 58), num_atoms=160
        ),
        Subunit(
            name="front", centre_angstrom=(42, 74, -30), radii_angstrom=(46, 30, 28), num_atoms=100
        ),
        Subunit(
            name="base", centre_angstrom=(18, -20, -86), radii_angstrom=(44, 34, 28), num_atoms=90
        ),
        Subunit(
            name="back", centre_angstrom=(-15, -78, 0), radii_angstrom=(48, 26, 44), num_atoms=110
        ),
        Subunit(
            name="stalk",
            centre_angstrom=(88, -22, 42),
            radii_angstrom=(62, 24, 24),
            num_atoms=150,
            moves=True,
        ),
    ),
    states=(
        State(name="core", subunits=("core", "base"), share=0.12),
        State(name="head", subunits=("core", "base", "head"), share=0.12),
        State(name="head-left", subunits=("core", "base", "head", "left"), share=0.14),
        State(name="head-front", subunits=("core", "base", "head", "front"), share=0.14),
        State(
            name="no-stalk", subunits=("core", "base", "head", "left", "front", "back"), share=0.16
        ),
        State(
            name="mature",
            subunits=("core", "base", "head", "left", "front", "back", "stalk"),
            share=0.3,
        ),
        State(name="dead-end", subunits=("core", "left", "back"), share=0.02),
    ),
    pivot_angstrom=(35, -15, 25),
    axis=(0, 1, 0),
    angles_deg=(-45, 45),
    num_frames=9,
)
"""Seven compositions of an assembling complex, one of them rare; the mature one's stalk swings."""

HINGE = Phantom(
    subunits=(
        Subunit(
            name="body", centre_angstrom=(-35, 0, -30), radii_angstrom=(60, 48, 42), num_atoms=260
        ),
        Subunit(
            name="foot", centre_angstrom=(-60, 40, 15), radii_angstrom=(26, 26, 30), num_atoms=60
        ),
        Subunit(
            name="arm",
            centre_angstrom=(20, 0, 50),
            radii_angstrom=(24, 28, 62),
            num_atoms=180,
            moves=True,
        ),
    ),
    states=(State(name="hinge", subunits=("body", "foot", "arm"), share=1.0),),
    pivot_angstrom=(0, 0, 0),
    axis=(0, 1, 0),
    angles_deg=(-20, 70),
    num_frames=30,
)
"""A body whose arm turns through 90 degrees."""

SWING = Phantom(
    subunits=(
        Subunit(
            name="body", centre_angstrom=(0, 0, -60), radii_angstrom=(60, 48, 38), num_atoms=240
        ),
        Subunit(
            name="foot", centre_angstrom=(45, 35, -92), radii_angstrom=(26, 26, 24), num_atoms=60
        ),
        Subunit(
            name="linker",
            centre_angstrom=(0, 0, 30),
            radii_angstrom=(9, 9, 40),
            num_atoms=40,
            moves=True,
        ),
        Subunit(
            name="domain",
            centre_angstrom=(0, 0, 90),
            radii_angstrom=(24, 24, 24),
            num_atoms=120,
            moves=True,
        ),
    ),
    states=(State(name="swing", subunits=("body", "foot", "linker", "domain"), share=1.0),),
    pivot_angstrom=(0, 0, -10),
    axis=(0, 1, 0),
    angles_deg=(-75, 75),
    num_frames=51,
)
"""A body whose domain, 48 Å across, swings through 150 degrees on an arc of 260 Å.

Positions 30 degrees apart have less than 1 % of the domain's density in common, so that a few
linear components do not describe the motion.
"""

PHANTOMS = {"assembly": ASSEMBLY, "hinge": HINGE, "swing": SWING}
