"""raydrgn: heterogeneous cryo-EM reconstruction on Ray."""

__version__ = "0.1.0"
