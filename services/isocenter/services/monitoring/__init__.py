"""What an operator looks at: metrics, health, and spans; over HTTP on this machine."""
