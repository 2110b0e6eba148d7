"""The server: one address for all nodes."""
