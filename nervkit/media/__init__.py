"""The non-pixel parts of a video as plain data: timing, tracks, metadata. No I/O, no torch."""
