"""`wsaas check`: tries a backend against the contract, with the gateway's own requests and verdicts."""
