"""Components, embeddings and clusters of points, and conditions on them; knows arrays only.

embedding     principal components and UMAP
clusters      k-means and Gaussian mixtures
query         conditions on columns that select rows
three_valued  conditions on values that may be missing
"""
