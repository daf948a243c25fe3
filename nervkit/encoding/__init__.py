"""A video's segments: fitted one by one, wherever that is, and put together into one file."""
