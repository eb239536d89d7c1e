"""The command line, `agentctl`: one module for each group of commands, imported when called."""
