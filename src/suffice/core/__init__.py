"""What every plane shares: the error tree, quantities as people write them, files on disk."""
