"""What a video is besides its pixels: times, tracks, tags. Plain data, without files or torch."""
