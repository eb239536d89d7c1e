"""The plugins that every node has: cpu and mem, plugins like any other."""
