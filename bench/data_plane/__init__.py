"""What does a router cost? nginx, a router of ours and others in front of the same three upstreams, loaded in turn.

Four prices: processor time per request and per 64-token stream, time added to going direct, memory of an open stream
and of an idle connection, and pauses in streams while thousands are open. The machine's speed drifts, so figures are
compared within a round, with nginx's of the same round.

Files: `upstream.c` what stands behind the routers, `subjects` what is measured, `nginx` how nginx is set up; `wrk` and
`ask.lua` the load without a pause, `client.c` and `client` the load at a steady pace and connections held open,
`holding` what those take; `compiler` makes programs of the C, `meter` reads what a process uses, `tools` what this
machine has to have, `campaign` what runs when, `results` what was measured, `report` and `plot` how it is shown,
`guard` how dear is too dear; `profiling`, a program of its own, where the router's time goes.
"""
