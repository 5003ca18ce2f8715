"""The dashboard: pages on which an operator sees what is wrong and mends it, in no framework's words."""
