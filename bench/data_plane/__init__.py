"""What does a router cost? nginx, a router of ours and others in front of the same three upstreams, loaded in turn.

Three prices: processor time per request and per 64-token stream, time added to going direct, memory of an open stream.
The machine's speed drifts, so figures are compared within a round, with nginx's of the same round.

Files: `upstream.c` what stands behind the routers, `subjects` what is measured, `nginx` how nginx is set up, `wrk` and
`ask.lua` the load, `streams` many streams held open, `meter` what a process uses, `tools` what this machine has to
have, `campaign` what runs when, `results` what was measured, `report` and `plot` how it is shown.
"""
