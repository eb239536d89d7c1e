"""The plugin host: finds plugins, decides which may load, loads them and supervises their calls.

    candidates   what is installed, from metadata alone     metadata, requirement
    policy       what may load, and why: a pure function     states
    loader       imports one plugin and checks its class
    lanes        threads that calls run in, with deadlines   supervisor
    report       the one record of each plugin               why
    plugin_host  all of it in order, for the agent

Nothing is imported here: a metadata-only listing needs neither pluggy nor asyncio. The records of
its modules are named tuples, since ten dataclasses take as long to define as three hundred
distributions to scan.
"""
