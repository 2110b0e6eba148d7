"""The agent as a service of the platform's own manager: systemd, launchd, Task Scheduler (requirement G8).

`plan` says what runs, and what the three have in common; one module each says how that is written down; `install` does
it.
"""
