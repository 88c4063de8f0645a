#!/usr/bin/env python3
"""The image in a coded object of a checkpoint (docs/formats.md, "Coded images"), read with none of the library's code:

    read_coded.py OBJECT JOB STEP SEQUENCE EPOCH WORLD_SIZE RANK KEYFILE >image

AES-256-GCM comes from libcrypto by ctypes, zstd from the command of that name.
"""
import ctypes
import ctypes.util
import hashlib
import hmac
import subprocess
import sys

crypto = ctypes.CDLL(ctypes.util.find_library("crypto"))
for function in ("EVP_CIPHER_CTX_new", "EVP_aes_256_gcm"):
    getattr(crypto, function).restype = ctypes.c_void_p


def number(data, at, size):
    return int.from_bytes(data[at:at + size], "little")


def open_frame(key, nonce, binding, stored):
    body, tag = stored[:-16], stored[-16:]
    context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    out = ctypes.create_string_buffer(len(body) + 16)
    length = ctypes.c_int()
    good = (crypto.EVP_DecryptInit_ex(context, ctypes.c_void_p(crypto.EVP_aes_256_gcm()), None, key, nonce) == 1
            and crypto.EVP_DecryptUpdate(context, None, ctypes.byref(length), binding, len(binding)) == 1
            and crypto.EVP_DecryptUpdate(context, out, ctypes.byref(length), body, len(body)) == 1
            and crypto.EVP_CIPHER_CTX_ctrl(context, 0x11, 16, tag) == 1
            and crypto.EVP_DecryptFinal_ex(context, out, ctypes.byref(length)) == 1)
    crypto.EVP_CIPHER_CTX_free(context)
    if not good:
        sys.exit("a frame's tag does not fit")
    return out.raw[:len(body)]


def main():
    path, job, step, sequence, epoch, world_size, rank, key_path = sys.argv[1:]
    with open(path, "rb") as file:
        data = file.read()
    with open(key_path, encoding="ascii") as file:
        user_key = bytes.fromhex(file.read().strip())
    footer = data[-128:]
    if footer[8:16] != b"DCINDEX\n" or number(footer, 16, 4) != 1:
        sys.exit("no index")
    codec, count = number(footer, 20, 4), number(footer, 44, 4)
    index = data[-(128 + 12 * count + 8):]
    if number(index, 0, 4) != 0x184D2A5D or number(index, 4, 4) != 128 + 12 * count:
        sys.exit("no skippable frame")
    key_number = hmac.new(user_key, b"dcache key number 1", hashlib.sha256).digest()[:8]
    if number(footer, 56, 8) != int.from_bytes(key_number, "big"):
        sys.exit("another key")
    key = hmac.new(user_key, b"dcache object key 1" + footer[64:96], hashlib.sha256).digest()
    image = b""
    at = 0
    for frame in range(count):
        size = number(index, 8 + 12 * frame, 4)
        binding = b"dcache frame 1".ljust(16, b"\0") + job.encode().ljust(64, b"\0")
        for value, width in ((int(step), 8), (int(sequence), 8), (int(epoch), 8), (int(world_size), 4), (int(rank), 4)):
            binding += value.to_bytes(width, "little")
        binding += footer[24:40] + frame.to_bytes(4, "little")
        binding += (codec << 28 | number(footer, 40, 4)).to_bytes(4, "little")
        plain = open_frame(key, frame.to_bytes(12, "little"), binding, data[at:at + size])
        if codec & 1:
            plain = subprocess.run(["zstd", "-dcq"], input=plain, stdout=subprocess.PIPE, check=True).stdout
        image += plain
        at += size
    if len(image) != number(footer, 24, 8) or at != len(data) - len(index):
        sys.exit("sizes do not add up")
    sys.stdout.buffer.write(image)


main()
