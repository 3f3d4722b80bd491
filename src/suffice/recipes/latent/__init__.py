"""Train latent networks, and say when width pays and when depth does."""
