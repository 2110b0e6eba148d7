"""Bytes to facts and back, with no socket in sight: every module is a plain state machine that is fed and asked."""
