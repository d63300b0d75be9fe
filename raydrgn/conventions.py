"""The one page on axes, frames, signs and units that the rest of raydrgn refers to.

Arrays
    Volumes are indexed (z, y, x), images (y, x); x is the fastest axis. Boxes are even. The origin
    of an image or a volume is the pixel at ``box // 2`` on every axis, in real and Fourier space.
    Coordinates and frequencies are written (x, y) or (x, y, z), in that order.

Frequencies
    Lattice points are integers k, one unit being 1/box cycles per pixel; Nyquist is box/2. Networks
    see k/box, between -0.5 and 0.5. The half disc of an image holds one of each pair (k, -k) of the
    points with 0 < |k| <= box/2, in row-major order: ky < 0, or ky = 0 and kx < 0. The other half
    is the same list reversed, and negated.

Fourier and Hartley
    F(k) = sum over r of f(r) exp(-2 pi i k.r / box), unnormalised, r from the centre pixel. The
    Hartley transform is H = Re F - Im F, so H(-k) = Re F + Im F.

Rotations
    A row vector p = (x, y, 0) of the image plane lies at p @ R in the volume: R maps the frame of
    the volume to the frame of the image, and R[2] is the viewing direction. From RELION's
    (rot, tilt, psi) R is the transpose of the intrinsic Z-Y-Z composition.

Shifts
    A shift t moves the image by t so that the particle is centred: f'(x) = f(x - t), or
    F'(k) = F(k) exp(-2 pi i k.t / box) with t in pixels. This is RELION's rlnOrigin and cryoSPARC's
    alignments3D/shift; cryoDRGN stores it as a fraction of the box. ParticleTable stores Å.

Contrast
    The contrast transfer function is minus the amplitude contrast at zero frequency, so positive
    density images dark. Stacks whose particles are bright (RELION's inverted contrast) are
    therefore multiplied by -1 before training, unless ``--uninvert-data`` says they are dark.

Handedness
    The mirror image of a volume about its origin is V(x, y, -z): index 0 of z stays where it is.
    ``--flip`` is cryoDRGN's: it reverses the array, which is this mirror image moved by one voxel
    along z: a model, or a map of the right hand, lies one voxel off.

Units
    Lengths in Å, defocus in Å (positive is underfocus), angles in degrees, voltage in kV, spherical
    aberration in mm, amplitude contrast a fraction; in names: ``_angstrom``, ``_deg``, ``_kv``,
    ``_mm``, ``_px``.

Numbering
    Epochs count from 1, particles and slices from 0, the ``NNNNNN@`` of a STAR file from 1.
"""
