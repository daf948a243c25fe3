"""Fit the segments of a video, in this process or elsewhere, and combine them into one file."""
