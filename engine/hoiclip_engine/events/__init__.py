"""Rules over tracked pairs, evidence of their hits, the record that outlives a run, and delivery."""
