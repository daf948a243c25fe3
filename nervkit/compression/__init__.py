"""Compression of fitted tensors: pruning, quantization to integers and entropy coding, and back."""
