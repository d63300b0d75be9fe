"""Where points lie.

box         boxes with a centre pixel
rotations   Euler angles, axis-angle vectors and matrices; uniform samples of SO(3)
lattice     half discs and half balls of Fourier points
"""
