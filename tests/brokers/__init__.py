"""Brokers, live: messages in, read models out, while consumers are killed and added."""
