"""Claims about inference efficiency: each with a test, an interval and a verdict that follows."""
