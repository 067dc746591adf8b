"""Backend and gateway killed and restarted at random under load: the books have to be right all the same."""
