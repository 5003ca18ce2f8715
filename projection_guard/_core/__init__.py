"""What happens to an event: delivered, kept, retried, drained; written once for blocking and async."""
