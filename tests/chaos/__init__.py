"""Backend and gateway are killed and restarted at random under load; afterwards, all promises are audited."""
