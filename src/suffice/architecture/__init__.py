"""What should the model be? Shapes, exact counts, loss laws, fits and search."""
