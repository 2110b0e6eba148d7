"""What is run by hand, or by make, to keep this tree in order; nothing of it is installed."""
