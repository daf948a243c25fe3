"""Rate-distortion benchmarks: anchors, sweeps, datasets and the report."""
