#!/usr/bin/env python3
"""Download a blob with nothing of dcache's: get_blob.py CONTAINER NAME > FILE

Account, key and endpoint come from AZURE_STORAGE_CONNECTION_STRING; the request is signed with the key (Shared Key).
"""
import base64
import email.utils
import hashlib
import hmac
import os
import sys
import urllib.parse
import urllib.request


def signed_request(url, account, key):
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    path = urllib.parse.urlsplit(url).path
    lines = ["GET"] + [""] * 11 + [f"{name}:{value}" for name, value in sorted(headers.items())] + [f"/{account}{path}"]
    digest = hmac.new(base64.b64decode(key), "\n".join(lines).encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(digest).decode()}"
    return urllib.request.Request(url, headers=headers)


def main(container, name):
    words = os.environ["AZURE_STORAGE_CONNECTION_STRING"].split(";")
    fields = dict(word.split("=", 1) for word in words if word)
    url = f"{fields['BlobEndpoint']}/{container}/{name}"
    with urllib.request.urlopen(signed_request(url, fields["AccountName"], fields["AccountKey"])) as answer:
        sys.stdout.buffer.write(answer.read())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
