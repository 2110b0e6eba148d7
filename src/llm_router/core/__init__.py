"""Decisions. No I/O, clock, dice, logging or async: `now` is passed in, and nothing awaits, so each call is atomic."""
