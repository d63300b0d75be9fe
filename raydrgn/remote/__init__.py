"""Ray without cryo-EM.

resources   what one worker asks of a cluster
session     join a cluster, or start one on this machine
fanout      bounded parallel work, failures as outcomes
progress    progress of work that runs elsewhere
jobs        a job: a command, what it needs, and what is sent
jobserver   submit jobs to a cluster, list, follow and stop them
"""
