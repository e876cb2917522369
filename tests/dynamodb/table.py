"""Tables as boto3 sees them: `create NAME KEY…`, `remove NAME` and `scan NAME` (one item a line, as
DynamoDB's JSON)."""

import json
import sys

import boto3

endpoint, region, access_key, secret_key, verb, name, *keys = sys.argv[1:]
client = boto3.client(
    "dynamodb",
    endpoint_url=endpoint,
    region_name=region,
    aws_access_key_id=access_key,
    aws_secret_access_key=secret_key,
)
if verb == "create":
    client.create_table(
        TableName=name,
        KeySchema=[
            {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ["HASH", "RANGE"])
        ],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=name)
elif verb == "remove":
    client.delete_table(TableName=name)
    client.get_waiter("table_not_exists").wait(TableName=name)
else:
    for page in client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True):
        for item in page["Items"]:
            print(json.dumps(item))
