"""The membership of this process in a cluster: leases, claims, and the connection to NATS."""
