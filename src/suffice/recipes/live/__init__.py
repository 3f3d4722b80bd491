"""Live certificates on recorded or made-up traffic."""
