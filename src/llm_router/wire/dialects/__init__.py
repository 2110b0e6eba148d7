"""The three APIs that clients speak, and the table of their inference paths."""
