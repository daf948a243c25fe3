"""Reading and writing pixels, timing, colour and packets."""
