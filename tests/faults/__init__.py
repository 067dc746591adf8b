"""Clients, backends, disks and networks that fail or attack: others are not affected."""
