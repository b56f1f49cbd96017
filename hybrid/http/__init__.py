"""HTTP/1.x as bytes and values: what arrived, what may follow. No loop, no socket, no time."""
