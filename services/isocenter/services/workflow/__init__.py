"""What goes on by itself once objects are stored: events and forwarding."""
