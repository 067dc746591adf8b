"""An example backend, and a web page that shows the HTTP between WSaaS and this backend.

`chat` is a tutorial on how to write a backend. `traffic` records its requests, `server` serves the page, and
`python -m wsaas.demo` runs them in one process. It can also start and end the nodes of a cluster (`cluster`). This
package and the gateway do not import each other: like any backend, it only speaks HTTP with the gateway. The page
shares parts with that of the console (`wsaas.web`).
"""
