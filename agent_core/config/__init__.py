"""The agent's configuration: TOML, environment and command line become one typed, checked model."""
