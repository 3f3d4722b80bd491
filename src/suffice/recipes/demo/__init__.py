"""What does it all amount to? The gateway with the model that ships, asked hundreds of puzzles."""
