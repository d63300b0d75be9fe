"""Components, embeddings and clusters of points; knows arrays only.

embedding  principal components and UMAP
clusters   k-means and Gaussian mixtures
"""
