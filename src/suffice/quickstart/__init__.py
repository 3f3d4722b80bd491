"""`suffice quickstart`: from a server's address to a gateway that saves, by plain commands."""
