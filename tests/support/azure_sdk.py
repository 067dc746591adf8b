"""Uses the service client of Azure Web PubSub for Python, which is not asynchronous; prints what it says as JSON.

Arguments: the connection string, and the id of a connection of the user ann in the hub chat.
"""

import io
import json
import sys

from azure.core.exceptions import HttpResponseError
from azure.messaging.webpubsubservice import WebPubSubServiceClient


def main(connection_string: str, connection_id: str) -> None:
    client = WebPubSubServiceClient.from_connection_string(connection_string, hub="chat")
    client.send_to_all({"to": "all"}, content_type="application/json")
    client.send_to_user("ann", "user", content_type="text/plain")
    client.add_connection_to_group("room", connection_id)
    client.send_to_group("room", io.BytesIO(b"\0\xff"), content_type="application/octet-stream")
    said: list[object] = [client.user_exists("ann"), client.group_exists("room"), client.group_exists("empty")]
    try:
        client.send_to_all("x", content_type="text/plain", filter="userId eq 'ann'")
    except HttpResponseError as error:
        said.append(error.status_code)
    client.close_connection(connection_id, reason="bye")
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
