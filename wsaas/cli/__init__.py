"""The command `wsaas`: arguments, signals and exit status."""
