"""What does a shape's loss come to? Data, training runs and the store of their results."""
