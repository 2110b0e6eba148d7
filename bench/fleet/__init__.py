"""Which policy answers soonest? One trace of conversations, played against routers in front of eight fake machines.

Two kinds of seconds: those of the *trace*, in which rates, loads and results are given, and those of the *wall*, which
are `scale` times fewer. Files: `trace` what is asked, `machine` how a machine behaves, `fleet` which machines there
are, `dialects` what goes over the wire, `runtime` the machines as a program, `routers` the routers under test, `player`
who asks, `campaign` who runs when, `results` what was measured, `report` and `plot` how it is shown; `warm_first` is a
reference policy, `simulate` the same without sockets, in virtual time.
"""
