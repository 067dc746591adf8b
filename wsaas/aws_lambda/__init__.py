"""Runs a Lambda function in Python on this machine: the process that `wsaas lambda` starts beside a gateway."""
