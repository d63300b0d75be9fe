"""Reading a latent space.

analysis     components, embedding, clusters and volumes of an epoch
report       its figures and report
paths        traversals: along components, straight, through neighbours
path_report  their volumes and figures
filters      which particles to keep
filter_report  what a selection keeps and drops
"""
