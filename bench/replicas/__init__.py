"""What does it cost to be one of several routers? Four programs; docs/scale.md has their figures.

`python -m bench.replicas`: a request through a replica, beside one through a router with a file of SQLite's.
`python -m bench.replicas.rest`: whole replicas, and a fleet that sends nothing but heartbeats.
`python -m bench.replicas.costs`: each thing that replicas do, by itself.
`python -m bench.replicas.limits`: where the limits lie by that, calculated.

Files: `subjects` what is asked, `campaign` what runs when, `results` what was measured, `report` how it is shown;
`part` a replica put together within the bench, `letters`, `deciding`, `rows` what is measured with it, `work` how;
`limits` the arithmetic; `database` a PostgreSQL of the bench's own. All but `limits` need PostgreSQL, the first wrk and
a C compiler besides.
"""
