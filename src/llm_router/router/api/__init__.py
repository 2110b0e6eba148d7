"""The control API and the lists that clients ask for."""
