"""Ray without cryo-EM.

executor          work in this process or on Ray, decided once
fanout            bounded parallel work, failures as outcomes
progress          progress of work, here or on workers
progress_line     progress as a line of a log, and found there again
metrics           gauges and counters for Prometheus
notices           a POST at start, end and failure of a command
resources         what each worker asks of a cluster
session           join a cluster, or start Ray on this machine
address           which cluster is joined, and whether Ray answers there
temporary_folder  where a Ray on this machine has its sockets and logs
jobs              a job: a command, what it needs, and what is sent
job_client        requests to a job server: proxies and tokens
jobserver         submit jobs to a cluster, list, follow and stop them
"""
