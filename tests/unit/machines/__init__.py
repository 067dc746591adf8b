"""Everything in any order: what has to hold after each step, whatever the steps were (hypothesis draws them)."""
