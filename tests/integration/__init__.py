"""The whole gateway over real sockets, with clients and a backend that share no code with it."""
