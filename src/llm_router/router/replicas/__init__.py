"""Routers that are one, on one PostgreSQL: what they tell each other, and how it travels. `following` hears it."""
