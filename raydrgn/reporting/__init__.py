"""The look of everything shown, and where it is written.

result_folder     a folder of results that records what it was made from
analysis_results  what `analyze` has written, for other commands
report            one HTML file
figures           slices, curves, scatter plots
latent_figures    particles in two dimensions
"""
