"""The whole gateway over real sockets, with clients and a backend that know nothing of its code."""
