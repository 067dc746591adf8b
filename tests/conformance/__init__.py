"""The requirements of RFC 6455 for a server, each with a test."""
