"""How Volant is run: configuration to copy, and the processes together for development, demonstration and tests."""
