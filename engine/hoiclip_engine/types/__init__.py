"""The data of a stream: frames, tracked pairs, events and results."""
