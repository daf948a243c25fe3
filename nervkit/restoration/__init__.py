"""Repairing videos with a representation that is fitted to them: denoise, inpaint, interpolate."""
