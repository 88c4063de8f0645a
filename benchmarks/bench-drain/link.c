#include "link.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define VALID_S 86400L

static bool add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    const bool good = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return good;
}

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    if (certificate == NULL)
        return NULL;
    X509_NAME *name = X509_get_subject_name(certificate);
    const bool good =
        X509_set_version(certificate, 2) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
        X509_gmtime_adj(X509_getm_notBefore(certificate), -VALID_S) != NULL &&
        X509_gmtime_adj(X509_getm_notAfter(certificate), VALID_S) != NULL && X509_set_pubkey(certificate, key) == 1 &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"bench-drain", -1, -1, 0) == 1 &&
        X509_set_issuer_name(certificate, name) == 1 &&
        add_extension(certificate, NID_subject_alt_name, "IP:127.0.0.1") &&
        add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE") &&
        X509_sign(certificate, key, EVP_sha256()) != 0;
    if (good)
        return certificate;
    X509_free(certificate);
    return NULL;
}

static bool write_certificate(const char *path, X509 *certificate)
{
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return false;
    const bool good = PEM_write_X509(file, certificate) == 1;
    return fclose(file) == 0 && good;
}

SSL_CTX *link_make_identity(const char *certificate_file)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = key != NULL ? make_certificate(key) : NULL;
    const bool good = context != NULL && certificate != NULL && write_certificate(certificate_file, certificate) &&
                      SSL_CTX_use_certificate(context, certificate) == 1 && SSL_CTX_use_PrivateKey(context, key) == 1;
    EVP_PKEY_free(key);
    X509_free(certificate);
    if (good)
        return context;
    SSL_CTX_free(context);
    return NULL;
}

bool link_open(struct link *link, int fd, SSL_CTX *identity)
{
    *link = (struct link){.fd = fd};
    if (identity == NULL)
        return true;
    link->ssl = SSL_new(identity);
    return link->ssl != NULL && SSL_set_fd(link->ssl, fd) == 1 && SSL_accept(link->ssl) == 1;
}

void link_close(struct link *link)
{
    SSL_free(link->ssl);
    close(link->fd);
}

ssize_t link_read(struct link *link, void *data, size_t most, bool drop)
{
    if (link->ssl != NULL)
        return SSL_read(link->ssl, data, most < 1u << 30 ? (int)most : 1 << 30);
    return recv(link->fd, data, most, drop ? MSG_TRUNC : 0);
}

bool link_write(struct link *link, const void *data, size_t bytes)
{
    const char *from = data;
    while (bytes > 0) {
        const int piece = bytes < 1u << 30 ? (int)bytes : 1 << 30;
        const ssize_t sent =
            link->ssl != NULL ? SSL_write(link->ssl, from, piece) : send(link->fd, from, (size_t)piece, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        from += sent;
        bytes -= (size_t)sent;
    }
    return true;
}
