"""What a whole house costs the router: a thousand nodes that report, requests, people who watch, a database in trouble.

Files: `nodes` the nodes as a program, `asking` who asks, `watching` who watches the live stream, `metrics` what the
router says of its own event loop, `trouble` what befalls the database, `campaign` who does what when, `results` what
came of it and what it must not be.
"""
