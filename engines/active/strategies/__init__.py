"""One file a strategy. A new file that defines a `Strategy` with an `info` is found by itself."""
