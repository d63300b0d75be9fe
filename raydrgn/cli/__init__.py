"""The command line: from words to settings, and from results to lines.

start        loads the program
main         the program, with its commands
application  the program before its commands
usage        why a value is refused, in the words of the program
command      settings of a workflow to the options of a command
console      results, messages and progress, on a terminal or in a log
exit_codes   how the program ends
tables       tables on the terminal
submission   from the words after `submit` to a job
forms        commands as forms, for the explorer
job_table    jobs of a cluster as rows of text

Each of the others has the command of its name; jobs has submit, jobs, status, logs and stop;
maps has fsc, flip and invert.

analyze
backproject
bench
clean
compare
convergence
demo
downsample
embed
evaluate
explore
export
filter
halves
info
jobs
landscape
maps
montage
occupancy
occupancy_classes
occupancy_masks
occupancy_pca
occupancy_score
parse
plot
protocol
relocate
runs
select
simulate
sweep
train
top
traverse
volumes
"""
