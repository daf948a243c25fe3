"""Rate-distortion benchmarks: anchors, sweeps, datasets, the report."""
