"""An example backend, and a web page that shows what WSaaS and the backend say to each other.

`chat` is the one to read: it is the tutorial of how to write a backend. `traffic` watches it from outside,
`server` adds the page, and `python -m wsaas.demo` runs them as one process. Nothing here imports the gateway,
and the gateway imports nothing from here: like any backend, it only speaks HTTP to it.
"""
