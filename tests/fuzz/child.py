"""The fuzzer of one target: `python -m tests.fuzz.child TARGET FLAG...`, with flags of libFuzzer."""

import sys

import atheris

PACKAGES = ["wsaas", "wsproto", "tests.fuzz.reference"]


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=PACKAGES):
        from .targets import TARGETS  # noqa: PLC0415 - what is imported here is instrumented
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


main()
