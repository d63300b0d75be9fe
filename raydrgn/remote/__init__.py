"""Ray without cryo-EM.

executor          work in this process or on Ray, decided once
fanout            bounded parallel tasks, failures as outcomes
worker_pool       actors that hold an object and take batches
summation         sums over tasks, the same to the bit whatever is lost
lost_workers  why workers are lost, and what is done again
waiting           what is logged while no worker can start
progress          progress of work, here or on workers
progress_line     progress as a line of a log, and found there again
metrics           gauges and counters for Prometheus
notices           a POST at start, end and failure of a command
resources         what each worker asks of a cluster
allocation        what each worker gets, by the nodes there are
autoscaler        what may be added to a cluster
node_answers      what each node answers when it is asked
reservation       room for all workers, waited for and kept
session           join a cluster, or start Ray on this machine
sigterm           SIGTERM as Ctrl-C, which schedulers send first
environment       variables that Ray, a job and its command know each other by
address           which cluster is joined, and whether Ray answers there
own_command       a command once more: here, or as a job like this one
process           a process of a machine: who runs it, whether it still runs
temporary_folder  where a Ray on this machine has its sockets and logs
jobs              a job: a command, what it needs, and what is sent
job_client        requests to a job server: proxies and tokens
job               what a job server knows of a job
job_attempts      jobs that start another one again, or cancel it
job_supervisor    starts a job again after a lost node or a crash; runs on the cluster
cancel_job        cancels a job that has not begun; runs on the cluster
own_job           what this process knows of the job that it is
job_queue         whose turn it is on a shared cluster
turn              a command's turn: waited for, kept, given back
jobserver         submit jobs to a cluster, list, follow and stop them
"""
