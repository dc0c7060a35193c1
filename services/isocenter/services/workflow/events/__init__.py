"""Durable events: written with their cause, delivered until they arrive.

`event` has them as values, `completion` the rules of a complete study, `outbox` the ports behind
which they are kept, `consumer` who gets them and how that is configured, `delivery` the delivery.
"""
