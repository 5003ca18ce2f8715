"""How the flow reaches the world: one protocol, driven blocking and async.

`begin` a transaction, `call` a handler, `sleep`: that is all the flow does. The blocking side's coroutines never
suspend, so `drive` runs them to their end without an event loop.
"""
