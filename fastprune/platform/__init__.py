"""What the library needs from its surroundings: collectives between ranks, kernel launches, PyTorch's private names."""
