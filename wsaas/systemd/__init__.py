"""What systemd passes to a service, and what a service reports to systemd. No other package knows of it."""
