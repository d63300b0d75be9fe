"""Sweeps: many trainings on the same particles, to find the settings that suit them.

space            settings to search, and their values
schedule         number of trials, when they are scored and stopped, how long they take
concurrency      trials at a time on a cluster
proposals        which settings are tried next
networks         trained networks of runs
consensus        one map for all particles, which runs are compared with
held_out         prediction of unseen coefficients of held-out images
half_sets        agreement of trainings on half of the particles each
scores           scores of an epoch of a run
trial_training   the training of one trial, scored while it goes on
trials           the runs of a sweep
record           what a sweep knows of its trials, in its folder
tuner            trials on Ray Tune
sweep            a sweep from prepared particles to the record of all its trials
ranking          which trial is the best, and the table of all
figures          settings, scores and losses
report           table, report and command in the folder of a sweep
"""
