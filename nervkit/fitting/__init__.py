"""Overfitting one representation to one clip, under a budget."""
