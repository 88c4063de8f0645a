#!/usr/bin/env python3
"""Download blobs with Azure's own client: blob_service_client.py CONTAINER PREFIX DIRECTORY SAS NAME...

Each blob once whole, with the account's key from AZURE_STORAGE_CONNECTION_STRING, and once in ranges that begin and end
anywhere, with the SAS; both have to be the same. The names have to be in a listing. Status 77: the package
azure-storage-blob is not installed.
"""
import os
import sys

try:
    from azure.storage.blob import BlobServiceClient, __version__
except ImportError:
    sys.exit(77)

CUTS = (1, 4095, 65536, 300001)  # lengths of ranges, in turn


def in_ranges(blob, size):
    pieces = []
    at = 0
    while at < size:
        length = min(CUTS[len(pieces) % len(CUTS)], size - at)
        pieces.append(blob.download_blob(offset=at, length=length).readall())
        at += length
    return b"".join(pieces)


def main(container, prefix, directory, sas, names):
    with_key = BlobServiceClient.from_connection_string(os.environ["AZURE_STORAGE_CONNECTION_STRING"])
    with_sas = BlobServiceClient(with_key.url.split("?")[0], credential=sas)
    listed = {blob.name: blob.size for blob in with_sas.get_container_client(container).list_blobs(prefix + "/")}
    for name in names:
        key = f"{prefix}/{name}"
        whole = with_key.get_blob_client(container, key).download_blob().readall()
        if listed.get(key) != len(whole):
            sys.exit(f"{key} has {len(whole)} bytes, but is listed with {listed.get(key)}")
        if in_ranges(with_sas.get_blob_client(container, key), len(whole)) != whole:
            sys.exit(f"{key} is another one in ranges")
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(whole)
    print(f"azure-storage-blob {__version__}: {len(names)} blobs")


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    main(*sys.argv[1:5], sys.argv[5:])
