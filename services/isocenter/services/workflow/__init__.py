"""Events and forwarding, which follow what is stored."""
