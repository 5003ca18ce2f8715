"""The dashboard, driven in a real browser against real servers."""
