"""From nothing to soft thoughts, and whether they say anything."""
