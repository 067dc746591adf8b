"""The command `wsaas`: arguments and environment in, a running gateway, an exit status out."""
