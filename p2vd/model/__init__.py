"""What things are: frozen values and errors. Pure: imports nothing of the operating system."""
