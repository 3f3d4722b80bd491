"""One client's connection: its limits, its request, its answer, and its leaving."""
