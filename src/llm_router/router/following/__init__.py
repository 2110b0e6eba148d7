"""Following the other replicas: what they say and write, taken over here (docs/design.md, "Replicas")."""
