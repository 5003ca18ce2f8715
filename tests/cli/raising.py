"""An application that cannot be imported, and says too much about it."""

raise RuntimeError("could not connect to postgresql://shop:hunter2secret@db/shop")
