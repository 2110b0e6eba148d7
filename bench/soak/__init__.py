"""A house of real processes for hours: steady load, processes that are killed, and what the router holds meanwhile.

Files: `household` the processes, `load` who asks, `trouble` what befalls the processes, `outages` what may come of it,
`watch` what is looked at every ten seconds, `campaign` who does what when, `results` the files of a run, `verdict`
whether it was as it should be, `report` and `plot` what people read.
"""
