"""Cases that run the gateway without sockets, on transports that only keep what is written."""
