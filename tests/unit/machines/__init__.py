"""State machines: invariants that hold after each of the steps that Hypothesis draws."""
