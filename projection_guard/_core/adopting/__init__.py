"""A tracker that an application has made by hand is adopted, by `work.Adopting`."""
