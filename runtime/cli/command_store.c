/* dcache store create: make the container or directory. */
#include "runtime/cli/cli.h"

#include <string.h>

int command_store(struct cli *cli)
{
    char url[STRIPES_TEXT_MAX];
    struct object_store *store = NULL;
    if (cli->argument_count != 1 || strcmp(cli->arguments[0], "create") != 0)
        return cli_misused(cli, "store takes one argument: create");
    cli->no_store = false;
    cli->may_create = true;
    dcache_status_t status = cli_store_open(cli, cli->options.store, url, &store);
    if (status == DCACHE_OK && store == NULL)
        return cli_misused(cli, "there is no object store to create: the option store is \"%s\"", cli->options.store);
    for (uint32_t i = 0; status == DCACHE_OK && i < stripes_count(store); i++) {
        struct object_store *made = stripes_store(store, i);
        status = made->ops->create(made, &cli->dg);
    }
    object_store_close(store);
    if (status != DCACHE_OK)
        return cli_failed(cli, status);
    if (cli->json)
        return cli_print_json(cli, json_pack("{s:s}", "object_store", url));
    printf("object store ready: %s\n", url);
    return CLI_OK;
}
