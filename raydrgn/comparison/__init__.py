"""Labels of the same particles, compared: clusters, classes, selections, published states.

labelings   the label of each particle of a set, by its number in the original set
sources     where labels come from: runs, result folders, files
groups      groups of labels that correspond, however finely either labeling divides
agreement   cross-tabulation of two labelings, and how far they agree
report      tables, heat maps and report
"""
