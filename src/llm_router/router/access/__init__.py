"""Who may do what: API keys, sessions of people, and the rules (docs/security.md)."""
