"""Colours of occupancies, classes and blocks, the same in figures, volumes and models."""

from matplotlib.colors import LinearSegmentedColormap

from raydrgn.reporting.figures import PALETTE
from raydrgn.reporting.latent_figures import series_colours

OCCUPANCY_COLOURS = LinearSegmentedColormap.from_list("occupancy", ["white", "#08306b"])
BLOCK_PALETTE = (
    "#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933",
    "#aa4499", "#e69f00", "#6699cc", "#661100",
)  # fmt: skip
"""Paul Tol's muted colours and some others, none of which is a colour of the classes."""

NO_BLOCK = "#d0d0d0"


def class_colours(count: int) -> list[str]:
    """Return a colour for each class, from 1."""
    return list(PALETTE[:count]) if count <= len(PALETTE) else series_colours(count)


def block_colours(count: int) -> list[str]:
    """Return a colour for each block, from 1."""
    return list(BLOCK_PALETTE[:count]) if count <= len(BLOCK_PALETTE) else series_colours(count)
