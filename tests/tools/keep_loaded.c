/**
 * Linked into every program of the build with sanitizers. MPI_Finalize() unloads plugins that have lost memory, and the
 * leak checker cannot name, so not excuse (lsan.supp), code that is gone. Here nothing is unloaded.
 */
int dlclose(void *handle);

int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
