"""Recorded samples: columns in memory, files on disk, and the way between them."""
