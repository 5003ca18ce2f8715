"""An event-sourced document service, small enough to read: a store, events, read models, and what can go wrong."""
