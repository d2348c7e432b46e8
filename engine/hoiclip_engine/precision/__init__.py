"""How a graph gets fewer bits: one policy of what must not, and one way per library that does it."""
