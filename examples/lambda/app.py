"""A Lambda function for a WebSocket API of AWS API Gateway. Without AWS, it is started by:

wsaas lambda --aws-route-responses=on app.handler
"""

import json
from contextlib import suppress
from functools import cache

import boto3

USERS = {"Bearer ada-token": "ada", "Bearer ben-token": "ben"}  # in place of your users and sessions
members = {}  # the user of each connection, in place of a table in DynamoDB


@cache
def management_api(domain, stage):
    return boto3.client("apigatewaymanagementapi", endpoint_url=f"https://{domain}/{stage}")


def handler(event, _context):
    request = event["requestContext"]
    connection = request["connectionId"]
    gateway = management_api(request["domainName"], request["stage"])
    match request["routeKey"]:
        case "$connect":
            user = USERS.get(event["headers"].get("Authorization"))
            if user is None:
                return {"statusCode": 401}
            members[connection] = user
        case "$disconnect":
            print(f"{members.pop(connection, None)} left: {request['disconnectStatusCode']}")
        case "notify":
            publish(gateway, str(json.loads(event["body"]).get("text", "")))
        case _ if event["body"] == "bye":
            gateway.delete_connection(ConnectionId=connection)
        case _:
            return {"statusCode": 200, "body": event["body"], "isBase64Encoded": event["isBase64Encoded"]}
    return {"statusCode": 200}


def publish(gateway, text):
    for connection in [*members]:
        with suppress(gateway.exceptions.GoneException):
            gateway.post_to_connection(ConnectionId=connection, Data=text.encode())
