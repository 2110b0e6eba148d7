"""The agent: makes a machine part of the fleet."""
