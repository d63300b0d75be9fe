"""Masks, by the name under which analysis knows them."""

from raydrgn.masks import soft_mask

__all__ = ["soft_mask"]
