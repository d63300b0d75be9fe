"""The whole protocol as one job: a project, its steps, and what is proposed and reported.

A project is a folder. ``project.yaml`` has its inputs and what was decided, by whom and why;
``steps.json`` has what each step was made from. Steps are calls of workflows.

class_differences  what a class differs in from all particles, mapped and decoded
class_folder       of each class its particles, their map, and its decoded volume
cluster_numbers    density, noise, resolution and |z| of each cluster of particles
decision_values    what the value of each decision may be
decisions          what is decided in a project, by whom and why
ensemble           traversal, landscape, occupancies, classes and exports
explored           a project as the explorer shows it
estimate           time, memory and disk of a project before it runs
inheritance        what other commands take from a project
inputs             contrast and hand of the particles, and their smaller boxes
completed_steps    the steps of a project that are made
plans              the trainings, as they are decided, and whether the disk holds them
project            the folder, and steps that are made once
proposal           which particles are junk, by a rule
proposal_page      the page that shows what is proposed
report             the report of a project, in the order of the paper's figures
round_training     a training that is followed, when it goes on, and the epoch that is taken
rounds             analysis, proposal and selection after a training
rounds_compared    clusters of the rounds, cross-tabulated
sequence           all steps, one after the other, and the pause
settings           settings of the command, and of a training
step_times         seconds of the steps that are no trainings, as measured
support            classes beside maps of their own particles
"""
