"""Model files wherever they are: what they say of themselves, what they take, and how they are fetched."""
