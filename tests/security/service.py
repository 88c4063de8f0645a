"""A service for the security tests: service.py LOG REPLY [CERTIFICATE KEY TLS_VERSION]

Prints its port. Writes a line to LOG for each HTTP request that arrives, and answers each as REPLY says: "ok" as Blob
does that has made a container, "stall" never, and anything else with a redirection to that URL.
"""
import socket
import ssl
import sys
import threading
import time


def answer(connection, reply, log):
    request = b""
    while b"\r\n\r\n" not in request:
        more = connection.recv(4096)
        if not more:
            return
        request += more
        if request[0] == 0x16: # TLS, where plain http is spoken
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return
    with open(log, "a", encoding="latin-1") as file:
        file.write(request.split(b"\r\n")[0].decode("latin-1") + "\n")
    if reply == "stall":
        time.sleep(600)
    if reply == "ok":
        text = "HTTP/1.1 201 Created\r\nx-ms-request-id: 1\r\n"
    else:
        text = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {reply}\r\n"
    connection.sendall((text + "Content-Length: 0\r\nConnection: close\r\n\r\n").encode())


def serve(connection, reply, log, context):
    try:
        if context:
            connection = context.wrap_socket(connection, server_side=True)
        answer(connection, reply, log)
    except OSError: # what the client does when it does not trust us
        pass
    finally:
        connection.close()


def main():
    log, reply = sys.argv[1:3]
    context = None
    if len(sys.argv) > 3:
        certificate, key, version = sys.argv[3:6]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = getattr(ssl.TLSVersion, version)
        context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, reply, log, context), daemon=True).start()


main()
