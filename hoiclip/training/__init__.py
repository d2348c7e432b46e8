"""Training: recipes, the loop and its parts."""
