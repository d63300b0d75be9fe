"""Ray without cryo-EM.

resources   what one worker asks of a cluster
session     join a cluster, or start one on this machine
fanout      bounded parallel work, failures as outcomes
progress    progress of work that runs elsewhere
jobs        submit commands to a cluster, follow and stop them
"""
