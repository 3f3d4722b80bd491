"""`suffice demo`: recorded answers of real models, played by local engines behind the gateway."""
