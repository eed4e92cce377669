"""RESP, and the pipe of a connection to Redis: bytes in, frames out, without IO."""
