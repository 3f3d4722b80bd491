"""Who produces tokens where nothing but NumPy is installed? A very small Llama, in this process."""
