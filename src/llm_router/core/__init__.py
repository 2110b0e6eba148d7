"""Decisions. No I/O, clock, dice, logging or async in here: `now` is passed in, and nothing awaits, so each call is atomic."""
