"""An application whose types have to be right: it is checked, and run once, as a user would have it."""
