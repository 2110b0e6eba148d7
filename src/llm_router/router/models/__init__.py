"""The models that a router offers to its nodes: where they come from, and what they are."""
