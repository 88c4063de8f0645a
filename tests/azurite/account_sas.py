#!/usr/bin/env python3
"""A shared access signature that allows to read and list for an hour, made with nothing of dcache's, from the account and
key in AZURE_STORAGE_CONNECTION_STRING. Printed without the '?'."""
import base64
import datetime
import hashlib
import hmac
import os
import urllib.parse

VERSION = "2021-08-06"


def main():
    words = os.environ["AZURE_STORAGE_CONNECTION_STRING"].split(";")
    fields = dict(word.split("=", 1) for word in words if word)
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    parts = {"sp": "rl", "ss": "b", "srt": "sco", "st": "", "se": end.strftime("%Y-%m-%dT%H:%M:%SZ"), "sip": "",
             "spr": "https,http", "sv": VERSION}
    order = ("sp", "ss", "srt", "st", "se", "sip", "spr", "sv")
    text = "\n".join([fields["AccountName"]] + [parts[name] for name in order] + ["", ""])
    digest = hmac.new(base64.b64decode(fields["AccountKey"]), text.encode(), hashlib.sha256).digest()
    parts["sig"] = base64.b64encode(digest).decode()
    print(urllib.parse.urlencode({name: value for name, value in parts.items() if value}))


main()
