"""Draw samples from a server and keep each whole, as traces."""
