"""The command ``eqv2``: its help appears at once, since nothing is registered before it is parsed.

``import eqv2_plugin`` alone registers all classes, for which it imports torch and fairchem; it
looks here whether the command asked for it. Workers of the command import this module as well, but
do not call it.
"""

started = False


def main() -> int:
    """Run the command; returns the exit status."""
    global started
    started = True
    from eqv2_plugin.cli import main as run

    return run()
