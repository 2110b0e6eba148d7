"""Routers that are one: several processes on one PostgreSQL (docs/design.md, "Replicas")."""
