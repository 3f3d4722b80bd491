"""A network that reasons by iterating a hidden state, and samples as trajectories of it."""
