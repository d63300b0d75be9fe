"""A run in the browser: a server for one page, which `make assets` builds from ``page/``.

The server has no logic of its own: it applies conditions with the code of `filter`, decodes with
the decoder pool, reads images as commands do, and calls workflows that it is handed.

packing        numbers and arrays in one answer
session        who may ask, and how much: token, cookie, host, origin, sizes, rates
study          an epoch as the page sees it
decoding       volumes for the page; requests that were overtaken are dropped
images         particle images for the page
drawn_results  paths of traversals and occupancies of classes
run_files      files of the run or project that the page may have
explorer       a run that is being explored
interfaces     what comes from above: commands as forms, a project
explored       what was opened: a run, or a project with its rounds
job_records    records of the jobs that were started from pages of a run
jobs           commands that were started from the page
actions        what the page saves
requests       what the page sends, checked
application    the routes
connections    connections, which must send requests in time
server         the port, and the life of the server
"""
