"""Video restoration with a representation fitted to the video: denoise, inpaint, interpolate."""
