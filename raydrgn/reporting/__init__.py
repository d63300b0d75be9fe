"""Reports and figures, and the folders that they are written to.

result_folder     a folder of results that records what it was made from
earlier_results   results that are replaced, kept until the new ones are finished
analysis_results  results of `analyze`, read by other commands
latent_plane      two dimensions of the latent space to draw particles in
report            one HTML file
figures           slices, curves, scatter plots
isosurface        shaded pictures and movies of surfaces
latent_figures    particles in two dimensions
"""
