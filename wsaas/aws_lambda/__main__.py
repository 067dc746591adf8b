"""The program `python -m wsaas.aws_lambda module.function`. Its variables are those that `wsaas lambda` sets."""

import asyncio
import logging
import os
import sys

from wsaas.aws_lambda.boto import lead_to_gateway
from wsaas.aws_lambda.event_loops import EventLoops
from wsaas.aws_lambda.function import Function, NoHandler, load
from wsaas.aws_lambda.server import InvocationServer


def main(name: str) -> int:
    """Serve invocations of the function `name` until the process ends; return an exit status if it cannot."""
    # As in Lambda: the lines of the root logger are written, and warnings are the default.
    logging.basicConfig(format="[%(levelname)s] %(message)s", stream=sys.stdout)
    lead_to_gateway(os.environ.get("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", ""))
    loops = EventLoops()
    asyncio.set_event_loop_policy(loops)
    try:
        handler = load(name)
    except NoHandler as error:
        print(error, file=sys.stderr)
        return 2
    # The loop that the module has got, if any, is for the first invocation.
    loops.release()
    function = Function(name, handler, float(os.environ["WSAAS_LAMBDA_TIMEOUT_S"]), loops)
    os.environ.update(function.variables())
    with InvocationServer(os.environ["WSAAS_LAMBDA_HOST"], int(os.environ["PORT"]), function) as server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
