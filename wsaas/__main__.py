"""The program `wsaas`: blocks SIGHUP first, then imports and runs the command.

The imports take a fifth of a second, during which a SIGHUP would end the process.
"""

import signal
import sys


def main() -> int:
    """Run the command with the arguments of the process; return its exit status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from wsaas.cli import main as command  # noqa: PLC0415 - see above

    return command.main()


if __name__ == "__main__":
    sys.exit(main())
