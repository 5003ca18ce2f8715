"""Other drivers than those of the beds."""
