"""The inference servers that an agent manages or attaches."""
