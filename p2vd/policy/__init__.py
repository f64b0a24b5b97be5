"""What the administrator wants: TOML files to rules; which rule matches a source, and why. Pure."""
