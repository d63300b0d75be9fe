"""The space of volumes: components, states, and the density of particles.

sketch             on-data volumes, and the place of every particle
states             components, states and free energy
volume_store       volumes on a scratch disk
masked_components  components within one mask
report, masked_report  figures and reports
"""
