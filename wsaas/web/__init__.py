"""Web pages of one file: how they are put together (`page`), and the parts that they share (`shared`).

The console and the demo have such pages. This package imports nothing of the gateway.
"""
