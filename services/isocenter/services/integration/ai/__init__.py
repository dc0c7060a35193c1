"""AI services: requests, results that come back, and what people say of them."""
